-- Lease a batch for release.
--
-- ARGV  1 now or ''  2 policy  3 key  4 lease token  5 most messages  6 lease (us)  7 reservation (us)
-- out   {state, id, message, id, message, ...}
-- does  moves what has come due, and what a dead releaser left, back into its lane; open -> half_open
--       when retry_at has come and somebody waits; leases on-demand before scheduled, each in order.
--       Never more than the service has room for; half-open one, and after its success never more than the
--       free probes. Each place is taken with a reservation.
local now = clock()
local token, most, ends, reserve = ARGV[4], tonumber(ARGV[5]), now + tonumber(ARGV[6]), tonumber(ARGV[7])
local c = load(now, ARGV[3])
local policy = policy_for(c)

for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', DUE, id)
  into_lane(id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, 1000)) do
  end_lease(id)
  into_lane(id)
end

local out = { shown(c) }
local way = stance(c, now)
-- Told where somebody waits, who would otherwise be passed over (see lot_first), by who may let them go; not at
-- each look.
if way ~= 'refuse' and (now - c.looked >= SECOND or now < c.looked) and waiting() > 0 then
  redis.call('HSET', CIRCUIT, 'looked', int(now))
end
-- Waiting is no answer any more: they leave, and fail clearly or try another service.
local gone = c.forced == '' and c.state == 'open' and (c.reason == 'retired' or c.reason == 'entitlement')
local freely = gone or c.forced == 'disabled' or (policy.observe and c.forced ~= 'open')
if in_lanes() == 0 or (way == 'refuse' and not freely) then
  return out
end
local reserved = not freely and (way == 'try' or limited(c, policy))
if reserved then
  local places = room(c, policy, now, AHEAD)
  if places < 1 then
    return out
  elseif way == 'try' then
    if c.state == 'open' then
      move(c, now, 'half_open', c.reason, 0)
      out[1] = shown(c)
    end
    -- The first goes alone: if it fails, the others were published for nothing. Later never below one: the limit
    -- may have been lowered meanwhile, and acquire will close it.
    local wanted = c.successes == 0 and 1 or math.max(policy.successes - c.successes, 1)
    places = math.min(places, policy.probes, wanted)
  end
  most = math.min(most, places - in_flight(now))
end

local lanes = { ON_DEMAND, SCHEDULED }
if way == 'try' then -- a probe that has failed goes behind all others, those of the other lane included
  local asked, other = redis.call('ZRANGE', ON_DEMAND, 0, 0)[1], redis.call('ZRANGE', SCHEDULED, 0, 0)[1]
  local t = asked and trail(asked)
  if other and t and t.behind and t.order > trail(other).order then
    lanes = { SCHEDULED, ON_DEMAND }
  end
end
for _, lane in ipairs(lanes) do
  local left = most - (#out - 1) / 2
  if left > 0 then
    for _, id in ipairs(redis.call('ZRANGE', lane, 0, left - 1)) do
      leave_lanes(id)
      lease(id, token, ends)
      if reserved then
        grow('ZADD', PROBES, now + reserve, reservation(id))
      end
      out[#out + 1] = id
      out[#out + 1] = text_of(id)
    end
  end
end
return out
