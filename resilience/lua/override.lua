-- Another policy for the whole fleet, until a time limit.
--
-- ARGV  1 now or ''  2 'if' or 'anyway'  3 with 'if': the override that was read, '' for none  4 note  5 actor
--       6 the stages as JSON, the first to end first: [[until (us), the text {changes, wire}], ...]; none: it ends
-- out   {1 done or 0 not: with 'if', somebody else has changed it since; how long to wait before it is
--        everybody's (us)}
-- does  every script goes by it from now on, whatever policy its caller brings
local now = clock()
local c = load(now)
if ARGV[2] == 'if' and ARGV[3] ~= c.override then
  return { 0, 0 }
end
local first = cjson.decode(ARGV[6])[1]
end_override(c)
if first then
  altered = true
  redis.call('HSET', CIRCUIT, 'override', first[2], 'override_until', int(first[1]), 'override_stages', ARGV[6])
end
redis.call('HSET', CIRCUIT, 'acted', 1, 'override_note', ARGV[4], 'override_actor', ARGV[5]) -- also who ended it
return { 1, unseen(c, now) }
