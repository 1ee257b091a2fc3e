-- Take messages in.
--
-- ARGV  1 now or ''  2 policy  3 key
--       4 mode: 'gate' parks only what the circuit refuses at this moment, 'spare' of that only what was here
--       before, 'force' parks
--       then for each message: id, lane letter d|s, delay (us), behind 0|1, expires (us, 0 never),
--       group '' for none, message
-- out   1 parked, 0 let through, 2 no room for it or 3 not now, for each message
-- does  a message replaces its earlier entry and clears a release lease on it; a reservation is freed;
--       a returning task keeps its place unless it goes behind; one whose group has a leader follows it
local now = clock()
local c = load(now, ARGV[3])
local policy = policy_for(c)
local way = stance(c, now)

local function let_through(id)
  if way == 'pass' then -- where calls must keep to a pace, what has waited goes first
    return not limited(c, policy) or waiting() == 0 or place_of(id, now) ~= nil
  elseif way == 'refuse' then
    return false
  end
  return c.state == 'half_open' and place_of(id, now) or waiting() == 0
end

local function was_here(id)
  return redis.call('HEXISTS', MESSAGES, id) == 1 or redis.call('ZSCORE', RETURNING, id)
end

-- What was here before had its place; it is not lost because others have come since.
local function no_room(id, message)
  if was_here(id) then
    return false
  end
  -- Does nothing, but for a server without memory left, which refuses it and with it the script.
  grow('ZADD', SINCE, 'XX', now, id)
  local bytes = tonumber(redis.call('HGET', CIRCUIT, 'bytes') or 0)
  return redis.call('HLEN', MESSAGES) >= policy.most or bytes + #message >= policy.bytes
end

-- Whether it follows another. The answer of a leader that has ended is older than the question: then it does not.
local function follows(id, group, place)
  local before, member = group_of(id)
  if member then
    unfollow(id, before, member)
  elseif before then
    group = before -- it leads, and goes on leading
  end
  if group == '' then
    return false
  end
  local leader = redis.call('HGET', LEADERS, group)
  if not leader or leader == id then
    grow('HSET', LEADERS, group, id)
    grow('HSET', GROUPED, id, group)
    redis.call('ZREM', AWAY, id)
    redis.call('HDEL', ENDED, id)
    return false
  elseif redis.call('HEXISTS', ENDED, leader) == 1 then
    return false
  end
  member = following(group, place, id)
  grow('ZADD', FOLLOWERS, 0, member)
  grow('HSET', GROUPED, id, member)
  if redis.call('HEXISTS', MESSAGES, leader) == 0 then
    grow('ZADD', AWAY, 'NX', now, leader)
  end
  if not before then
    redis.call('HINCRBY', CIRCUIT, 'coalesced', 1)
  end
  return true
end

local last = tonumber(redis.call('HGET', CIRCUIT, 'last_place') or 0)
local parked = 0
local out = {}
for i = 5, #ARGV, 7 do
  local id, lane, delay, behind = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local expires, group, message = tonumber(ARGV[i + 4]), ARGV[i + 5], ARGV[i + 6]
  if ARGV[4] ~= 'force' and let_through(id) then
    out[#out + 1] = 0
  elseif ARGV[4] == 'spare' and not was_here(id) then
    out[#out + 1] = 3
  elseif no_room(id, message) then
    redis.call('HINCRBY', CIRCUIT, 'dropped:full', 1)
    out[#out + 1] = 2
  else
    redis.call('ZREM', PROBES, reservation(id))
    leave_lanes(id)
    end_lease(id)
    redis.call('ZREM', EXPIRES, id)
    redis.call('ZREM', RETURNING, id)
    local t = trail(id)
    if t.since == 0 then -- a store's clock that is hours behind would have it wait too long once it is set right
      t.since = THEIRS > now + HOUR and THEIRS or now
    end
    if t.order == 0 or behind == '1' then
      last = math.max(now, last + 1)
      t.order = last
    end
    t.behind = t.behind or behind == '1'
    keep_trail(id, t)
    redis.call('HINCRBY', CIRCUIT, 'bytes', #message + 1 - redis.call('HSTRLEN', MESSAGES, id))
    grow('HSET', MESSAGES, id, lane .. message)
    grow('ZADD', SINCE, t.since, id)
    if expires > 0 then
      grow('ZADD', EXPIRES, expires, id)
    end
    if not follows(id, group, t.order) then -- else its leader's delay is enough
      if delay > 0 then
        grow('ZADD', DUE, now + delay, id)
      else
        grow('ZADD', lane_of(lane), t.order, id)
      end
    end
    parked = parked + 1
    out[#out + 1] = 1
  end
end
if parked > 0 then
  altered = true
  redis.call('HSET', CIRCUIT, 'last_place', last)
  redis.call('HINCRBY', CIRCUIT, 'parked', parked)
  if ARGV[4] ~= 'force' then -- refused here, before anybody asked for a permit
    redis.call('HINCRBY', CIRCUIT, 'blocked', parked)
  end
end
return out
