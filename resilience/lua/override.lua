-- Another policy for the whole fleet, until a time limit.
--
-- ARGV  1 now or ''  2 the change as JSON {changes, wire}, or '' to end it  3 time limit (us)  4 note  5 actor
-- out   how long to wait before it is everybody's (us)
-- does  every script goes by it from now on, whatever policy its caller brings
local now = clock()
local c = load(now)
if ARGV[2] == '' then
  end_override(c)
  redis.call('HSET', CIRCUIT, 'override_note', ARGV[4], 'override_actor', ARGV[5]) -- who took it back
else
  redis.call('HSET', CIRCUIT, 'override', ARGV[2], 'override_until', now + tonumber(ARGV[3]),
    'override_note', ARGV[4], 'override_actor', ARGV[5])
end
return unseen(c, now)
