-- One circuit as it stands.
--
-- ARGV  1 now or ''
-- out   {now, half-open calls in flight, parked, parked and ready, oldest parked since (us),
--        leaders whose answer others wait for, when the next in the lot comes due, lapses or expires (us, 0 for
--        none), field, value, ...}
-- does  ends what has reached its time limit; the first look in a minute keeps the counts (see history), so
--       that calls pay nothing for what a monitor draws

-- Nearly always: a closed circuit that nobody has touched and nobody waits for. Each worker asks for every one
-- of them twice a second, and the prelude alone takes longer than this.
do
  local key = KEYS[1]
  local f = redis.call('HMGET', key, 'state', 'forced', 'override')
  local closed = (not f[1] or f[1] == 'closed') and not (f[2] or f[3])
  if closed and redis.call('EXISTS', key .. ':probes', key .. ':lot:messages', key .. ':lot:away') == 0 then
    local time = redis.call('TIME')
    local now = tonumber(ARGV[1]) or tonumber(time[1]) * 1000000 + tonumber(time[2])
    local last = redis.call('LINDEX', key .. ':samples', -1)
    if last and math.floor(string.match(last, '^%d+') / 60000000) == math.floor(now / 60000000) then
      local out = { now, 0, 0, 0, 0, 0, 0 }
      for place, item in ipairs(redis.call('HGETALL', key)) do
        out[place + 7] = item
      end
      return out
    end
  end
end
-- prelude
local now = clock()
local c = load(now)
reexamined(c, now) -- so that the time shown is one to come, also where nobody asks for a permit
local last = redis.call('LINDEX', SAMPLES, -1)
if not last or math.floor(string.match(last, '^%d+') / MINUTE) ~= math.floor(now / MINUTE) then
  grow('RPUSH', SAMPLES, sample(now))
  redis.call('LTRIM', SAMPLES, -SAMPLES_KEPT, -1)
end
local function first(set)
  return tonumber(redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2] or nil)
end
local stirs = math.min(first(DUE) or math.huge, first(LEASES) or math.huge, first(EXPIRES) or math.huge)
local out = {
  now, in_flight(now), math.max(redis.call('HLEN', MESSAGES), waiting()), waiting(), first(SINCE) or 0,
  redis.call('ZCARD', AWAY), stirs < math.huge and stirs or 0,
}
for _, item in ipairs(redis.call('HGETALL', CIRCUIT)) do
  out[#out + 1] = item
end
return out
