-- Look through a part of the lot for messages with one of these texts in them.
--
-- ARGV  1 now or ''  2 where to go on, 0 for the beginning  3 how many to look at, about  4.. the texts, as JSON
-- out   {where to go on, 0 at the end, id, message, id, message, ...}
-- does  nothing. From beginning to end every message is found that is there all the time.
local step = redis.call('HSCAN', MESSAGES, ARGV[2], 'COUNT', ARGV[3])
local out = { step[1] }
for i = 1, #step[2], 2 do
  for j = 4, #ARGV do
    if string.find(step[2][i + 1], ARGV[j], 2, true) then
      out[#out + 1] = step[2][i]
      out[#out + 1] = string.sub(step[2][i + 1], 2)
      break
    end
  end
end
return out
