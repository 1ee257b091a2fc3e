-- Lease a batch for release.
--
-- ARGV  1 now or ''  2 policy  3 lease token  4 most messages  5 lease (us)  6 reservation (us)
-- out   {state, id, message, id, message, ...}
-- does  moves what has come due, and what a dead releaser left, back into its lane; open -> half_open
--       when retry_at has come and somebody waits; leases on-demand before scheduled, each in order.
--       Half-open: never more than the free probes, each taken with a reservation.
local now = clock()
local policy, token, most = cjson.decode(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local lease, reserve = tonumber(ARGV[5]), tonumber(ARGV[6])
local c = load(now)

local function into_lane(id)
  redis.call('ZADD', lane_of(redis.call('HGET', MESSAGES, id)), trail(id).order, id)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', DUE, id)
  into_lane(id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', LEASES, id)
  redis.call('HDEL', TOKENS, id)
  into_lane(id)
end

local out = { shown(c) }
local ready = redis.call('ZCARD', ON_DEMAND) + redis.call('ZCARD', SCHEDULED)
local closed = c.forced == 'closed' or c.forced == 'disabled' or (c.forced == '' and c.state == 'closed')
-- Waiting is no answer any more: they leave, and fail clearly or try another service.
local gone = c.forced == '' and c.state == 'open' and (c.reason == 'retired' or c.reason == 'entitlement')
closed = closed or gone
if ready == 0 or c.forced == 'open' or (not closed and c.state == 'open' and now < c.retry_at) then
  return out
end
if not closed then
  if c.state == 'open' then
    move(c, now, 'half_open', c.reason, 0)
    out[1] = shown(c)
  end
  -- Not below one probe: the limit may have been lowered meanwhile, and acquire will close it.
  local wanted = math.max(policy.successes_needed - c.successes, 1)
  most = math.min(most, math.min(policy.half_open_max_calls, wanted) - in_flight(now))
end

for _, lane in ipairs({ ON_DEMAND, SCHEDULED }) do
  local room = most - (#out - 1) / 2
  if room > 0 then
    for _, id in ipairs(redis.call('ZRANGE', lane, 0, room - 1)) do
      leave_lanes(id)
      redis.call('ZADD', LEASES, now + lease, id)
      redis.call('HSET', TOKENS, id, token)
      if not closed then
        redis.call('ZADD', PROBES, now + reserve, reservation(id))
      end
      out[#out + 1] = id
      out[#out + 1] = string.sub(redis.call('HGET', MESSAGES, id), 2)
    end
  end
end
return out
