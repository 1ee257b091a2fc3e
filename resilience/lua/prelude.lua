-- Shared by every script; put in front of each when it is loaded.
--
-- KEYS  all keys of one service, always the same thirteen in this order, all under the hash
--       tag {service}, so a script runs on one node of a cluster
-- ARGV  1 now or '', 2 the policy as JSON where a script decides by it, then the script's own
-- time  microseconds since the epoch, from the server's clock; ARGV[1] replaces it in tests
local CIRCUIT, PROBES, TRANSITIONS = KEYS[1], KEYS[2], KEYS[3]
local ON_DEMAND, SCHEDULED, DUE = KEYS[4], KEYS[5], KEYS[6]
local MESSAGES, LEASES, TOKENS = KEYS[7], KEYS[8], KEYS[9]
local TRAIL, RETURNING, SINCE, EXPIRES = KEYS[10], KEYS[11], KEYS[12], KEYS[13]

local SECOND = 1000000
local DAY = 86400 * SECOND
local TRANSITIONS_KEPT = 500
-- Releasers look about this often; what waits for one of them is told to come back then.
local RELEASE_PERIOD = 1 * SECOND

-- tostring() and .. round a time to 14 digits; this does not.
local function int(number)
  return string.format('%.0f', number)
end

local function clock()
  if ARGV[1] ~= '' then
    return tonumber(ARGV[1])
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * SECOND + tonumber(time[2])
end

-- What an observer calls the state: an operator's word lies over the machine's.
local function shown(c)
  if c.forced == 'open' then
    return 'forced_open'
  elseif c.forced == 'disabled' then
    return 'disabled'
  end
  return c.state
end

local function record(c, now, from, to, reason, actor, note)
  redis.call('HINCRBY', CIRCUIT, 'moved:' .. from .. ':' .. to, 1)
  redis.call('XADD', TRANSITIONS, 'MAXLEN', '~', TRANSITIONS_KEPT, '*',
    'at', int(now), 'from', from, 'to', to, 'reason', reason, 'failures', int(c.failures),
    'retry_at', int(c.retry_at), 'generation', int(c.generation), 'actor', actor or '', 'note', note or '')
end

local function load(now)
  local f = redis.call('HMGET', CIRCUIT, 'state', 'generation', 'failures', 'successes',
    'retry_at', 'reason', 'forced', 'forced_until', 'reopened')
  local c = {
    state = f[1] or 'closed', generation = tonumber(f[2] or 0),
    failures = tonumber(f[3] or 0), successes = tonumber(f[4] or 0),
    retry_at = tonumber(f[5] or 0), reason = f[6] or '',
    forced = f[7] or '', forced_until = tonumber(f[8] or 0),
    reopened = tonumber(f[9] or 0),
  }
  if c.forced ~= '' and c.forced_until <= now then
    local from = shown(c)
    c.forced = ''
    redis.call('HDEL', CIRCUIT, 'forced', 'forced_until', 'actor', 'note')
    if from ~= c.state then
      record(c, now, from, c.state, c.reason, '', 'time limit reached')
    end
  end
  return c
end

-- A change of state starts a new generation and takes every permit of the old one with it.
local function move(c, now, to, reason, retry_at, actor, note)
  local from = shown(c)
  c.state, c.reason, c.retry_at, c.successes = to, reason, retry_at, 0
  c.generation = c.generation + 1
  if to == 'closed' then
    c.failures, c.reopened = 0, 0
  end
  redis.call('HSET', CIRCUIT, 'state', to, 'generation', c.generation, 'failures', c.failures,
    'successes', 0, 'retry_at', retry_at, 'reason', reason, 'since', now, 'reopened', c.reopened)
  redis.call('DEL', PROBES)
  record(c, now, from, to, reason, actor, note)
end

-- Tasks that wait for this circuit, those just handed to a releaser included.
local function waiting()
  return redis.call('ZCARD', ON_DEMAND) + redis.call('ZCARD', SCHEDULED) + redis.call('ZCARD', LEASES)
end

-- Calls and reservations whose lease runs. A lapsed one stays on record until its era ends, so that a
-- success that comes late is told from one reported twice.
local function in_flight(now)
  return redis.call('ZCOUNT', PROBES, '(' .. int(now), '+inf')
end

local function holds(member, now)
  return tonumber(redis.call('ZSCORE', PROBES, member) or 0) > now
end

-- A released task holds a place among the probes until it acquires, is parked again, or is late.
local function reservation(id)
  return 'reserved:' .. id
end

-- The place among the probes a released task may use: its own, or, where that lapsed while the task
-- waited in its queue, another released task's, which will find one in turn.
local function place_of(id, now)
  if holds(reservation(id), now) then
    return reservation(id)
  elseif redis.call('ZSCORE', RETURNING, id) then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', PROBES, '(' .. int(now), '+inf')) do
      if string.sub(member, 1, 9) == 'reserved:' then
        return member
      end
    end
  end
end

-- What is known of a task that was parked or failed: first parked, place, attempts spent, processes lost.
local function trail(id)
  local since, order, attempts, losses =
    string.match(redis.call('HGET', TRAIL, id) or '0:0:0:0', '(%d+):(%d+):(%d+):(%d+)')
  return {
    since = tonumber(since), order = tonumber(order), attempts = tonumber(attempts), losses = tonumber(losses),
  }
end

local function keep_trail(id, t)
  redis.call('HSET', TRAIL, id,
    int(t.since) .. ':' .. int(t.order) .. ':' .. int(t.attempts) .. ':' .. int(t.losses))
end

local function forget_trail(id)
  redis.call('HDEL', TRAIL, id)
  redis.call('ZREM', RETURNING, id)
end

-- Takes a task out of the lot wherever it stands; true if it was there.
local function leave_lot(id)
  if redis.call('HDEL', MESSAGES, id) == 0 then
    return false
  end
  redis.call('HDEL', TOKENS, id)
  for _, set in ipairs({ ON_DEMAND, SCHEDULED, DUE, LEASES, SINCE, EXPIRES }) do
    redis.call('ZREM', set, id)
  end
  redis.call('HINCRBY', CIRCUIT, 'released', 1)
  return true
end

-- Tasks that left the lot more than a day ago and never ended here are forgotten, a few at a time.
local function drop_old_trails(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', RETURNING, '-inf', now - DAY, 'LIMIT', 0, 20)) do
    forget_trail(id)
  end
end

local function leave_lanes(id)
  for _, set in ipairs({ ON_DEMAND, SCHEDULED, DUE }) do
    redis.call('ZREM', set, id)
  end
end

-- A stored message is its lane's letter, then the message.
local function lane_of(message)
  return string.sub(message, 1, 1) == 'd' and ON_DEMAND or SCHEDULED
end
