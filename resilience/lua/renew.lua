-- May a process take this circuit for closed for a moment, without asking?
--
-- ARGV  1 now or ''  2 ''  3 key  4 how long the moment is (us)
--       then the fields it has counted since it last told, and how much each grows by (see report)
-- out   {1 yes or 0 no, generation}
-- does  counts; notes until when somebody may go by it: whoever reports trouble by then waits for that
--       long (see report), so no call begins after such a report has returned and does not know of it
local now = clock()
for i = 5, #ARGV, 2 do
  redis.call('HINCRBY', CIRCUIT, ARGV[i], ARGV[i + 1])
end
local c = load(now, ARGV[3])
local clean = stance(c, now) == 'pass' and c.forced == '' and c.override == '' and c.failures == 0 and c.ramp == 0
  and c.good_key == ARGV[3] and redis.call('EXISTS', TRAIL, MESSAGES) == 0
if clean then
  redis.call('HSET', CIRCUIT, 'viewed_until', now + tonumber(ARGV[4]))
end
return { clean and 1 or 0, c.generation }
