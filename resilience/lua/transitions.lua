-- Hand out the changes of state that nobody in the fleet has been handed yet.
--
-- ARGV  1 now or ''  2 most  3 how long whoever was handed one may be silent before another gets it (ms)
-- out   {the number of the last one that was passed on, {{id, {field, value, ...}}, ...}}
-- does  makes the readers' group; each entry goes to one asker, which says when it has passed it on. None is
--       handed out before those it follows have been passed on.
local group, reader = 'listeners', 'publisher'
if redis.call('EXISTS', TRANSITIONS) == 0 then
  return { 0, {} }
end
redis.pcall('XGROUP', 'CREATE', TRANSITIONS, group, '0')
-- Of what was handed out, the oldest may have gone with the end of the history. Redis before 7 hands such out
-- again and again, without their fields.
for _, handed in ipairs(redis.call('XPENDING', TRANSITIONS, group, '-', '+', ARGV[2])) do
  if #redis.call('XREVRANGE', TRANSITIONS, handed[1], handed[1]) == 0 then
    redis.call('XACK', TRANSITIONS, group, handed[1])
  end
end
local heard = tonumber(redis.call('HGET', CIRCUIT, 'heard') or 0)
local out = redis.call('XAUTOCLAIM', TRANSITIONS, group, reader, ARGV[3], '0', 'COUNT', ARGV[2])[2]
if redis.call('XPENDING', TRANSITIONS, group)[1] > 0 then
  return { heard, out }
end
local fresh = redis.call('XREADGROUP', 'GROUP', group, reader, 'COUNT', ARGV[2], 'STREAMS', TRANSITIONS, '>')
for _, entry in ipairs(fresh and fresh[1][2] or {}) do
  out[#out + 1] = entry
end
return { heard, out }
