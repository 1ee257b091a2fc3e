-- Lease messages that have expired while they waited, whatever the circuit says.
--
-- ARGV  1 now or ''  2 lease token  3 most messages  4 lease (us)
-- out   {message, message, ...}
-- does  takes them out of their lanes, so that no probe is spent on them
local now = clock()
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', EXPIRES, '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))) do
  if not redis.call('ZSCORE', LEASES, id) then
    leave_lanes(id)
    redis.call('ZADD', LEASES, now + tonumber(ARGV[4]), id)
    redis.call('HSET', TOKENS, id, ARGV[2])
    out[#out + 1] = string.sub(redis.call('HGET', MESSAGES, id), 2)
  end
end
return out
