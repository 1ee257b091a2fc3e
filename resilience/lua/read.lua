-- One circuit as it stands.
--
-- ARGV  1 now or ''
-- out   {now, half-open calls in flight, parked, parked and ready, oldest parked since (us),
--        leaders whose answer others wait for, field, value, ...}
-- does  ends what has reached its time limit; the first look in a minute keeps the counts (see history), so
--       that calls pay nothing for what a monitor draws
local now = clock()
local c = load(now)
reexamined(c, now) -- so that the time shown is one to come, also where nobody asks for a permit
local last = redis.call('LINDEX', SAMPLES, -1)
if not last or math.floor(string.match(last, '^%d+') / MINUTE) ~= math.floor(now / MINUTE) then
  redis.call('RPUSH', SAMPLES, sample(now))
  redis.call('LTRIM', SAMPLES, -SAMPLES_KEPT, -1)
end
local oldest = redis.call('ZRANGE', SINCE, 0, 0, 'WITHSCORES')
local out = {
  now, in_flight(now), redis.call('HLEN', MESSAGES), waiting(), tonumber(oldest[2] or 0),
  redis.call('ZCARD', AWAY),
}
for _, item in ipairs(redis.call('HGETALL', CIRCUIT)) do
  out[#out + 1] = item
end
return out
