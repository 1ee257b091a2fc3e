-- Hand out the changes of state that nobody in the fleet has been handed yet.
--
-- ARGV  1 now or ''  2 most  3 how long whoever was handed one may be silent before another gets it (ms)
-- out   {{id, {field, value, ...}}, ...}
-- does  makes the readers' group; each entry goes to one asker, which says when it has passed it on. None is
--       handed out before those it follows have been passed on.
local group, reader = 'listeners', 'publisher'
if redis.call('EXISTS', TRANSITIONS) == 0 then
  return {}
end
redis.pcall('XGROUP', 'CREATE', TRANSITIONS, group, '0')
local out = redis.call('XAUTOCLAIM', TRANSITIONS, group, reader, ARGV[3], '0', 'COUNT', ARGV[2])[2]
if redis.call('XPENDING', TRANSITIONS, group)[1] > 0 then
  return out
end
local fresh = redis.call('XREADGROUP', 'GROUP', group, reader, 'COUNT', ARGV[2], 'STREAMS', TRANSITIONS, '>')
for _, entry in ipairs(fresh and fresh[1][2] or {}) do
  out[#out + 1] = entry
end
return out
