-- A process knows that this circuit was shut a moment ago.
--
-- ARGV  1 now or ''  2 ''  3 key  4 the generation it knows  5 retry_at (us)  6 reason
-- out   1 if it was news, 0 if not
-- does  a store that came back without its memory opens the circuit again until then
local now = clock()
local key, generation, retry_at, reason = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local c = load(now)
-- Eras only go up: one that is behind what a process has seen has been forgotten.
if generation <= c.generation or retry_at <= now or c.state ~= 'closed' or c.forced ~= '' then
  return 0
end
c.generation = generation
if reason == 'auth' then
  redis.call('HSET', CIRCUIT, 'refused:' .. key, now)
end
move(c, now, 'open', reason, retry_at, '', 'the store had lost it')
return 1
