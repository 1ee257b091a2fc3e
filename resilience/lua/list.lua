-- What is parked, the longest waiting first.
--
-- ARGV  1 now or ''  2 most  3 how many to pass over
-- out   {{id, parked since (us), due (us, 0: the circuit is the gate), released 0|1, attempts spent,
--        lane letter and message}, ...}
-- does  nothing
local out = {}
local first = tonumber(ARGV[3])
for _, id in ipairs(redis.call('ZRANGE', SINCE, first, first + tonumber(ARGV[2]) - 1)) do
  local t = trail(id)
  out[#out + 1] = {
    id, t.since, tonumber(redis.call('ZSCORE', DUE, id) or 0), redis.call('ZSCORE', LEASES, id) and 1 or 0,
    t.attempts, redis.call('HGET', MESSAGES, id) or '',
  }
end
return out
