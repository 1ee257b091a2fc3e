-- Look through a part of the lot for messages with one of these texts in them.
--
-- ARGV  1 now or ''  2 where to go on, -inf for the beginning  3 how many to look at, about  4.. the texts, as JSON
-- out   {where to go on, '' at the end, id, message, id, message, ...}
-- does  nothing. From beginning to end every message is found that is there all the time: a part ends between two
--       times, so that nothing is passed over because something else has left.
local most = tonumber(ARGV[3])
local rows = redis.call('ZRANGEBYSCORE', SINCE, '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, most)
local last = rows[#rows]
local out = { #rows / 2 == most and last or '' }

local function look_at(id)
  local message = redis.call('HGET', MESSAGES, id) or ''
  for i = 4, #ARGV do
    if string.find(message, ARGV[i], 2, true) then
      out[#out + 1] = id
      out[#out + 1] = text_of(id)
      return
    end
  end
end

for i = 1, #rows, 2 do
  if rows[i + 1] ~= last then
    look_at(rows[i])
  end
end
for _, id in ipairs(last and redis.call('ZRANGEBYSCORE', SINCE, last, last) or {}) do
  look_at(id)
end
return out
