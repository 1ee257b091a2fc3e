-- Lease messages to end them, whatever the circuit says.
--
-- ARGV  1 now or ''  2 lease token  3 most messages, the longest waiting first  4 lease (us)
--       5.. ids, if only these
-- out   {id, message, id, message, ...}
-- does  takes them out of their lanes; what is on its way to its queue already is left alone
local now = clock()
local ids, most = { unpack(ARGV, 5) }, tonumber(ARGV[3])
if #ids == 0 then
  ids = redis.call('ZRANGE', SINCE, 0, most + redis.call('ZCARD', LEASES) - 1)
end
local out = {}
for _, id in ipairs(ids) do
  local parked = redis.call('HEXISTS', MESSAGES, id) == 1 or redis.call('ZSCORE', SINCE, id)
  if #out / 2 < most and parked and not redis.call('ZSCORE', LEASES, id) then
    leave_lanes(id)
    lease(id, ARGV[2], now + tonumber(ARGV[4]))
    out[#out + 1] = id
    out[#out + 1] = text_of(id)
  end
end
return out
