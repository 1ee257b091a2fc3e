-- An operator wants what is parked tried now.
--
-- ARGV  1 now or ''  2 note  3 actor
-- out   {state afterwards, how many may go}
-- does  ends their own pauses; an open circuit becomes half-open, so the first of them try it at once. A
--       forced one stays as it is, and so does a retired one.
local now = clock()
local c = load(now)
for _, id in ipairs(redis.call('ZRANGE', DUE, 0, 9999)) do
  redis.call('ZREM', DUE, id)
  into_lane(id)
end
if c.forced == '' and c.state == 'open' and c.reason ~= 'retired' then
  move(c, now, 'half_open', c.reason, 0, ARGV[3], ARGV[2])
end
return { shown(c), in_lanes() }
