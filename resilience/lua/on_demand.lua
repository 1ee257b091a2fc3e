-- On-demand messages that wait for the circuit, in order.
--
-- ARGV  1 now or ''  2 most  3 how many to pass over
-- out   {id, message, id, message, ...}
-- does  nothing
local out = {}
local first = tonumber(ARGV[3])
for _, id in ipairs(redis.call('ZRANGE', ON_DEMAND, first, first + tonumber(ARGV[2]) - 1)) do
  out[#out + 1] = id
  out[#out + 1] = text_of(id)
end
return out
