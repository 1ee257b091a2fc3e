-- Shared by every script; put in front of each when it is loaded. The script is then a function that ``epilogue.lua`` calls.
--
-- KEYS  1 the circuit. The service's other keys are derived from it: all lie under its hash tag, so on one
--       server of a cluster, where the caller names them too.
-- ARGV  1 the caller's clock, as ~time; in tests time, which replaces the server's, or both, as time~time
--       2 the policy as JSON where a script decides by it (a rule that is not there is none)
--       3 the fingerprint of the caller's key or '' where that matters, then the script's own
-- time  microseconds since the epoch, from the server's clock; see clock()

local CIRCUIT = KEYS[1]
local PROBES, TRANSITIONS = CIRCUIT .. ':probes', CIRCUIT .. ':transitions'
local WINDOW, REPORTERS, CALLS = CIRCUIT .. ':window', CIRCUIT .. ':reporters', CIRCUIT .. ':calls'
local COUNTED, SAMPLES = CIRCUIT .. ':counted', CIRCUIT .. ':samples'
local FAILING, SUBJECTS = CIRCUIT .. ':failing', CIRCUIT .. ':subjects'
local LOT = CIRCUIT .. ':lot:'
local ON_DEMAND, SCHEDULED, DUE = LOT .. 'on_demand', LOT .. 'scheduled', LOT .. 'due'
local MESSAGES, LEASES, TOKENS = LOT .. 'messages', LOT .. 'leases', LOT .. 'tokens'
local TRAIL, RETURNING = LOT .. 'trail', LOT .. 'returning'
local SINCE, EXPIRES = LOT .. 'since', LOT .. 'expires'
local GROUPED, LEADERS, FOLLOWERS = LOT .. 'grouped', LOT .. 'leaders', LOT .. 'followers'
local AWAY, ENDED = LOT .. 'away', LOT .. 'ended'
local ALL = {
  CIRCUIT, PROBES, TRANSITIONS, WINDOW, REPORTERS, CALLS, COUNTED, SAMPLES, FAILING, SUBJECTS, ON_DEMAND, SCHEDULED, DUE, MESSAGES,
  LEASES, TOKENS, TRAIL, RETURNING, SINCE, EXPIRES, GROUPED, LEADERS, FOLLOWERS, AWAY, ENDED,
}

local SECOND = 1000000
local HOUR = 3600 * SECOND
local DAY = 24 * HOUR
local TRANSITIONS_KEPT = 500
-- The counts as they were once a minute: an hour of them, and where that began.
local MINUTE = 60 * SECOND
local SAMPLES_KEPT = 61
-- Releasers look about this often; what waits for one of them is told to come back then.
local RELEASE_PERIOD = 1 * SECOND
-- Where none has looked for so long, there is none.
local UNATTENDED = 5 * SECOND
-- A thousand calls a second are as good as any number.
local RAMP_ENDS = SECOND / 1000
-- After each failure a recovery doubles its pace more rarely, down to once in this time. So often it has doubled
-- since it began in any case: it ends, however many calls fail.
local RAMP_SLOWEST = 32 * SECOND
-- A released task may take its turn so long before it comes, and waits for it: else the way back from the
-- lot would cost a part of the pace.
local AHEAD = SECOND / 10
-- So far ahead of the time last seen the clock has leapt, unless the caller's says the same, and so long it is doubted.
local LEAP, DOUBT = 2 * MINUTE, MINUTE
-- What waiting alone does not mend is refused with a time so far away.
local REEXAMINE = 300 * SECOND

-- What a script has put something in beside the circuit, and whether what decides how long all is kept may have
-- changed (see epilogue.lua). Each key but the circuit's grows by this alone.
local grown, altered = {}, false
local function grow(command, key, ...)
  grown[key] = true
  return redis.call(command, key, ...)
end

-- tostring() and .. round a time to 14 digits; this does not.
local function int(number)
  return string.format('%.0f', number)
end

-- The server's clock was set back: what had so long left then has so long left, less the time that has passed since.
-- A quota's is not made shorter by that, since only the callers' clocks tell it. What tells when something was, and
-- what a task's waiting is counted from, stays: nothing is overdue by this.
local function set_back(now, seen, passed)
  local function moved_back(time, name)
    local quota = name == 'tat' or name == COUNTED
    return int(math.max(time - (seen - now) - (quota and 0 or passed), 1))
  end
  for _, name in ipairs({
    'retry_at', 'forced_until', 'override_until', 'tat', 'viewed_until', 'ramp', 'pulled_back', 'since', 'looked',
  }) do
    local time = tonumber(redis.call('HGET', CIRCUIT, name)) or 0
    if time > 0 then
      redis.call('HSET', CIRCUIT, name, moved_back(time, name))
    end
  end
  for _, name in ipairs(redis.call('HKEYS', CIRCUIT)) do
    if string.sub(name, 1, 8) == 'doubted:' then
      redis.call('HSET', CIRCUIT, name, moved_back(tonumber(redis.call('HGET', CIRCUIT, name)) or 1, name))
    end
  end
  -- An operator's changes have their times in their text: what has sixteen digits is one.
  for _, name in ipairs({ 'override', 'override_stages' }) do
    local text = redis.call('HGET', CIRCUIT, name)
    if text then
      text = string.gsub(text, '%f[%d]' .. string.rep('%d', 16) .. '%f[%D]', moved_back)
      redis.call('HSET', CIRCUIT, name, text)
    end
  end
  if (tonumber(redis.call('HGET', CIRCUIT, 'last_failure')) or 0) > now then
    redis.call('HSET', CIRCUIT, 'last_failure', int(now))
  end
  for _, set in ipairs({ PROBES, CALLS, COUNTED, REPORTERS, LEASES, DUE, AWAY }) do
    local found = redis.call('ZRANGE', set, 0, -1, 'WITHSCORES')
    for i = 1, #found, 2 do
      grow('ZADD', set, moved_back(tonumber(found[i + 1]), set), found[i])
    end
  end
  local last = redis.call('LINDEX', SAMPLES, -1)
  while last and (tonumber(string.match(last, '^%d+')) or 0) > now do
    redis.call('LTRIM', SAMPLES, 0, -2)
    last = redis.call('LINDEX', SAMPLES, -1)
  end
  -- Who was handed changes of state has a minute from now to say that they have been passed on.
  redis.pcall('XAUTOCLAIM', TRANSITIONS, 'listeners', 'publisher', 0, '0', 'COUNT', TRANSITIONS_KEPT, 'JUSTID')
end

-- The time to go by, and the caller's own: the server's clock may jump, and nothing must end or last longer by that.
--
-- seen, there  the latest time any script has gone by, to a second, and its caller's clock then
-- leapt, lag   since when the clock is not believed, and how far it is ahead
--
-- When it is set back, every deadline moves with it. When it is far ahead of what was seen, either nobody has looked
-- for so long, as the callers' clocks say too, or it has leapt: then the time goes on as it was for a minute. By
-- then it has been set right, and nothing has happened, or it is the time.
-- kept         when the circuit was last seen to be kept, and how (see epilogue.lua)
local NOW, THEIRS, KEPT
local function clock()
  if NOW then
    return NOW
  end
  local given, theirs = string.match(ARGV[1], '^(%d*)~?(%d*)$')
  local time = redis.call('TIME')
  time = tonumber(given) or tonumber(time[1]) * SECOND + tonumber(time[2])
  THEIRS = tonumber(theirs) or time
  local f = redis.call('HMGET', CIRCUIT, 'seen', 'leapt', 'lag', 'there', 'kept')
  local seen, leapt, lag = tonumber(f[1]) or time, tonumber(f[2]) or math.huge, tonumber(f[3]) or 0
  local there = tonumber(f[4]) or THEIRS
  NOW, KEPT = time, f[5] or ''
  if time >= leapt and time < leapt + DOUBT then
    NOW = time - lag
  elseif time < leapt and time - seen > LEAP and THEIRS - there < (time - seen) / 2 then
    NOW = seen
    redis.pcall('HSET', CIRCUIT, 'leapt', int(time), 'lag', int(time - seen))
  elseif f[2] then
    redis.call('HDEL', CIRCUIT, 'leapt', 'lag')
  end
  if NOW < seen - SECOND then
    set_back(NOW, seen, math.max(THEIRS - there, 0))
  end
  if not f[1] or math.abs(NOW - seen) > SECOND then -- a server without memory left may refuse it
    redis.pcall('HSET', CIRCUIT, 'seen', int(NOW), 'there', int(THEIRS))
  end
  return NOW
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

-- Every change of what an observer sees, once for the whole fleet.
local function record(c, now, from, to, reason, actor, note)
  altered = true
  redis.call('HINCRBY', CIRCUIT, 'moved:' .. from .. ':' .. to, 1)
  local seen = c.window or { calls = 0, failed = 0, slow = 0 }
  -- Numbered, so that it shows when some are missing: only the latest are kept.
  local number = redis.call('HINCRBY', CIRCUIT, 'moves', 1)
  grow('XADD', TRANSITIONS, 'MAXLEN', '~', TRANSITIONS_KEPT, '*', 'number', number,
    'at', int(now), 'from', from, 'to', to, 'reason', reason, 'failures', int(c.failures),
    'calls', seen.calls, 'failed', seen.failed, 'slow', seen.slow,
    'retry_at', int(c.retry_at), 'actor', actor or '', 'note', note or '')
end

local function end_forced(c)
  c.forced, altered = '', true
  redis.call('HDEL', CIRCUIT, 'forced', 'forced_until', 'actor', 'note')
end

local function end_override(c)
  c.override, altered = '', true
  redis.call('HDEL', CIRCUIT, 'override', 'override_until', 'override_stages', 'override_actor', 'override_note')
end

-- Some of an operator's changes have reached their time limit: what is left of them, until the next does.
local function next_override(c, now)
  local over = false
  for _, stage in ipairs(cjson.decode(redis.call('HGET', CIRCUIT, 'override_stages') or '[]')) do
    if over and stage[1] > now then
      c.override, c.override_until = stage[2], stage[1]
      redis.call('HSET', CIRCUIT, 'override', c.override, 'override_until', int(c.override_until))
      return
    end
    over = over or stage[1] == c.override_until
  end
  end_override(c)
end

-- The circuit, and what of it concerns a caller with this key.
local function load(now, key)
  local f = redis.call('HMGET', CIRCUIT, 'state', 'generation', 'failures', 'successes',
    'retry_at', 'reason', 'forced', 'forced_until', 'reopened', 'override', 'override_until',
    'good_key', 'tat', 'viewed_until', 'ramp', 'ramp_doubles', 'pulled_back', 'since', 'looked', 'subject',
    'refused:' .. (key or ''), 'doubted:' .. (key or ''))
  local c = {
    state = f[1] or 'closed', generation = tonumber(f[2] or 0),
    failures = tonumber(f[3] or 0), successes = tonumber(f[4] or 0),
    retry_at = tonumber(f[5] or 0), reason = f[6] or '',
    forced = f[7] or '', forced_until = tonumber(f[8] or 0),
    reopened = tonumber(f[9] or 0), override = f[10] or '', override_until = tonumber(f[11] or 0),
    good_key = f[12] or '', tat = tonumber(f[13] or 0),
    viewed_until = tonumber(f[14] or 0), ramp = tonumber(f[15] or 0),
    ramp_doubles = tonumber(f[16] or SECOND), pulled_back = tonumber(f[17] or 0),
    since = tonumber(f[18] or 0), looked = tonumber(f[19] or 0), subject = f[20] or '',
    refused = f[21], doubted = tonumber(f[22] or 0),
  }
  if c.forced ~= '' and c.forced_until <= now then
    local from = shown(c)
    end_forced(c)
    if from ~= c.state then
      record(c, now, from, c.state, c.reason, '', 'time limit reached')
    end
  end
  if c.override ~= '' and c.override_until <= now then
    next_override(c, now)
  end
  return c
end

-- The caller's policy, unless an operator has put another in force for the fleet.
local function policy_for(c)
  return c.override ~= '' and cjson.decode(c.override).wire or cjson.decode(ARGV[2])
end

local function end_ramp(c)
  c.ramp, c.ramp_doubles, c.pulled_back = 0, SECOND, 0
  redis.call('HDEL', CIRCUIT, 'ramp', 'ramp_doubles', 'pulled_back')
end

-- Nothing has failed since the last success.
local function clear_failures(c)
  c.failures, c.subject = 0, ''
  redis.call('HSET', CIRCUIT, 'failures', 0)
  redis.call('HDEL', CIRCUIT, 'subject')
  redis.call('DEL', FAILING, SUBJECTS)
end

-- A change of state starts a new generation and takes every permit of the old one with it.
local function move(c, now, to, reason, retry_at, actor, note)
  local from = shown(c)
  c.state, c.reason, c.retry_at, c.successes, c.since = to, reason, retry_at, 0, now
  c.generation = c.generation + 1
  if to == 'closed' then
    clear_failures(c)
    c.reopened = 0
  end
  redis.call('HSET', CIRCUIT, 'state', to, 'generation', c.generation, 'failures', c.failures,
    'successes', 0, 'retry_at', retry_at, 'reason', reason, 'since', now, 'reopened', c.reopened)
  redis.call('DEL', PROBES, WINDOW, REPORTERS, SUBJECTS)
  if c.ramp > 0 then
    end_ramp(c)
  end
  record(c, now, from, to, reason, actor, note)
end

local function recover(c, policy, now)
  move(c, now, 'closed', '', 0)
  if policy.ramp then
    c.ramp = now
    redis.call('HSET', CIRCUIT, 'ramp', now)
  end
end

-- When a refusal that no probe will end is looked at again. A circuit that is open for another reason keeps its
-- time: one caller's refused key is nothing to the others.
local function reexamined(c, now)
  local unprobed = c.state == 'open' and (c.reason == 'auth' or c.reason == 'retired')
  if not unprobed then
    return math.max(c.retry_at, now + REEXAMINE)
  elseif c.retry_at <= now then
    c.retry_at = now + REEXAMINE
    redis.call('HSET', CIRCUIT, 'retry_at', c.retry_at)
  end
  return c.retry_at
end

-- Who may pass, probes' places and limits aside: 'pass'; 'try', as a probe; or 'refuse', until when, why.
local function stance(c, now)
  if c.forced == 'open' then
    return 'refuse', c.forced_until, 'forced'
  elseif c.forced == 'disabled' then
    return 'pass'
  elseif c.refused then
    return 'refuse', reexamined(c, now), 'auth'
  elseif c.doubted > now and c.state == 'closed' then -- where another key is accepted
    return 'refuse', c.doubted, 'turned_away'
  elseif c.forced ~= '' or c.state == 'closed' then
    return 'pass'
  elseif c.state == 'open' and c.reason == 'retired' then
    return 'refuse', reexamined(c, now), c.reason
  elseif c.state == 'open' and c.reason ~= 'auth' and now < c.retry_at then
    return 'refuse', c.retry_at, c.reason
  end
  return 'try' -- also with another key than the one that was refused
end

-- After a recovery the pace starts slowly, doubles every second, and ends where nobody would notice: the time
-- from one call to the next, and how often it has doubled; nil where there is no recovery (any more).
local function ramp_step(c, policy, now)
  if c.ramp == 0 then
    return nil
  end
  local own, at_least = (now - c.ramp) / c.ramp_doubles, (now - c.since) / RAMP_SLOWEST
  local doublings = math.max(math.floor(math.max(own, at_least)), 0)
  local step = policy.ramp and math.floor(policy.ramp / 2 ^ doublings) or 0
  if step < RAMP_ENDS then
    end_ramp(c)
    return nil
  end
  return step, doublings
end

-- The pace in force: the time from one call to the next and how many may go at once (nil: any), and whose.
local function pace(c, policy, now)
  local step = ramp_step(c, policy, now)
  if step and step > (policy.interval or 0) then
    return step, math.max(1, math.floor(SECOND / 2 / step)), 'recovering'
  end
  return policy.interval, policy.burst, 'quota'
end

-- A strict quota: when the next call may reach the provider. Each counts until its score; until its report, as
-- if it took all the time it may.
local function countable_at(policy)
  return tonumber(redis.call('ZREVRANGE', COUNTED, policy.counted - 1, policy.counted - 1, 'WITHSCORES')[2] or 0)
end

-- What the service can bear, whatever its circuit says: calls that may go within so long a time from now, and if
-- none, until when, why.
local function room(c, policy, now, ahead)
  local most = math.huge
  if policy.concurrent then
    redis.call('ZREMRANGEBYSCORE', CALLS, '-inf', now)
    most = policy.concurrent - redis.call('ZCARD', CALLS)
    if most <= 0 then
      return 0, tonumber(redis.call('ZRANGE', CALLS, 0, 0, 'WITHSCORES')[2]), 'concurrency'
    end
  end
  local interval, burst, whose = pace(c, policy, now)
  if c.ramp > 0 and now < c.pulled_back + SECOND then
    return 0, c.pulled_back + SECOND, 'recovering'
  end
  if policy.counted then
    local latest = now + AHEAD + policy.lease + policy.counted_for
    -- What a longer window has noted, or a clock that was set back since, is no matter to this one.
    for _, call in ipairs(redis.call('ZRANGEBYSCORE', COUNTED, '(' .. int(latest), '+inf')) do
      grow('ZADD', COUNTED, latest, call)
    end
  end
  if interval then -- GCRA: the time at which a steady stream would have used up what has been used
    local latest = now + AHEAD + burst * interval
    if c.tat > latest then -- what a stricter pace has noted is no matter to this one
      c.tat = latest
      redis.call('HSET', CIRCUIT, 'tat', int(c.tat))
    end
    local tokens = math.floor((now + ahead - math.max(c.tat, now)) / interval) + burst
    if tokens < 1 then
      return 0, c.tat - (burst - 1) * interval, whose
    end
    most = math.min(most, tokens)
  end
  if policy.counted then
    local free_at = countable_at(policy)
    if free_at > now + ahead then
      return 0, free_at, 'quota'
    end
    most = math.min(most, policy.counted - redis.call('ZCOUNT', COUNTED, '(' .. int(now + ahead), '+inf'))
  end
  return most
end

-- Whether calls must keep to anything while the circuit is closed.
local function limited(c, policy)
  return c.forced ~= 'disabled' and (policy.concurrent or policy.interval or c.ramp > 0)
end

-- How long somebody may still take this circuit for well without asking (see renew).
local function unseen(c, now)
  return math.max(c.viewed_until - now, 0)
end

-- Tasks that wait for nothing but this circuit.
local function in_lanes()
  return redis.call('ZCARD', ON_DEMAND) + redis.call('ZCARD', SCHEDULED)
end

-- The same, those just handed to a releaser included.
local function waiting()
  return in_lanes() + redis.call('ZCARD', LEASES)
end

-- Whether what waits goes first. For a caller that is no task only while somebody lets it go: since it began to
-- wait, and may go, a releaser has looked a moment ago. Where a task asks there is a worker, and that releases.
local function lot_first(c, now, owner)
  if waiting() == 0 or owner ~= '' then
    return waiting() > 0
  end
  local attended = 0
  local began = tonumber(redis.call('ZRANGE', SINCE, 0, 0, 'WITHSCORES')[2] or 0)
  for _, at in ipairs({ c.looked, c.retry_at, began }) do
    if at <= now then -- else the clock was set back since
      attended = math.max(attended, at)
    end
  end
  return now - attended <= UNATTENDED
end

-- Calls and reservations whose lease runs. A lapsed one stays on record until its era ends, so that a
-- success that comes late is told from one reported twice.
local function in_flight(now)
  return redis.call('ZCOUNT', PROBES, '(' .. int(now), '+inf')
end

local function holds(member, now)
  return tonumber(redis.call('ZSCORE', PROBES, member) or 0) > now
end

-- What has come of the calls since the store began, as one line.
local function sample(now)
  local f = redis.call('HMGET', CIRCUIT, 'blocked', 'verdict:success', 'verdict:failure', 'verdict:hold')
  return int(now) .. ' ' .. (f[1] or 0) .. ' ' .. (f[2] or 0) .. ' ' .. (f[3] or 0) .. ' ' .. (f[4] or 0)
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

-- What is known of a task that was parked or failed: first parked, place, attempts spent, processes lost, and
-- whether it went behind all others.
local function trail(id)
  local since, order, attempts, losses, behind =
    string.match(redis.call('HGET', TRAIL, id) or '', '(%d+):(%d+):(%d+):(%d+):?(%d*)')
  return {
    since = tonumber(since or 0), order = tonumber(order or 0), attempts = tonumber(attempts or 0),
    losses = tonumber(losses or 0), behind = behind == '1',
  }
end

local function keep_trail(id, t)
  grow('HSET', TRAIL, id,
    int(t.since) .. ':' .. int(t.order) .. ':' .. int(t.attempts) .. ':' .. int(t.losses) .. (t.behind and ':1' or ''))
end

-- A stored message is its lane's letter, then the message; false where it is gone and its id is not, which
-- somebody has damaged.
local function lane_of(message)
  return message and string.sub(message, 1, 1) == 'd' and ON_DEMAND or SCHEDULED
end

-- '' for one that is gone: it is told with its id, ended like any that cannot be read, and no error of this script.
local function text_of(id)
  return string.sub(redis.call('HGET', MESSAGES, id) or '', 2)
end

local function leave_lanes(id)
  for _, set in ipairs({ ON_DEMAND, SCHEDULED, DUE }) do
    redis.call('ZREM', set, id)
  end
end

-- Until then nobody else is handed this message, and who has the token may settle it.
local function lease(id, token, ends)
  grow('ZADD', LEASES, ends, id)
  grow('HSET', TOKENS, id, token)
end

local function end_lease(id)
  redis.call('ZREM', LEASES, id)
  redis.call('HDEL', TOKENS, id)
end

-- Coalescing. Of identical tasks, a group, one leads: it waits in a lane, runs, and its answer is the others'. Those
-- follow: each is in the lot, and in no lane.
-- GROUPED    task -> its group, if it leads; its member of FOLLOWERS, if it follows
-- LEADERS    group -> who leads it, in the lot or out, until its end is known here and nobody follows
-- FOLLOWERS  group:place:task, in this order
-- AWAY       leaders that are out of the lot while others follow -> since when, or since when they have ended
-- ENDED      those of them that have ended -> the verdict, '' where it was told elsewhere
local function following(group, place, id)
  return group .. ':' .. string.format('%020.0f', place) .. ':' .. id
end

-- The first so many of those that follow, and their members of FOLLOWERS.
local function followers(group, most)
  local ids, members = {}, {}
  for _, member in ipairs(redis.call('ZRANGEBYLEX', FOLLOWERS, '[' .. group .. ':', '(' .. group .. ';', 'LIMIT', 0, most)) do
    local id = string.match(member, '^[^:]*:%d*:(.*)$')
    if id then
      ids[#ids + 1], members[#members + 1] = id, member
    end
  end
  return ids, members
end

-- What GROUPED says of a task: its group, and its member of FOLLOWERS or nil if it leads; nothing if it is in none.
local function group_of(id)
  local kept = redis.call('HGET', GROUPED, id)
  if kept then
    local group = string.match(kept, '^[^:]*')
    return group, kept ~= group and kept or nil
  end
end

-- Back to where it waits: a lane, or behind its leader.
local function into_lane(id)
  local _, member = group_of(id)
  if not member then
    grow('ZADD', lane_of(redis.call('HGET', MESSAGES, id)), trail(id).order, id)
  end
end

-- A leader's place goes to the first that follows, in its lane at once; without any the group is no more.
local function succeed(group)
  if not group then -- somebody has damaged it
    return
  end
  local leader = redis.call('HGET', LEADERS, group) or ''
  redis.call('HDEL', GROUPED, leader)
  redis.call('HDEL', ENDED, leader)
  redis.call('ZREM', AWAY, leader)
  local ids, members = followers(group, 1)
  local id = ids[1]
  if not id then
    redis.call('HDEL', LEADERS, group)
    return
  end
  redis.call('ZREM', FOLLOWERS, members[1])
  grow('HSET', GROUPED, id, group)
  grow('HSET', LEADERS, group, id)
  if not redis.call('ZSCORE', LEASES, id) then -- else it is about to end, or its lease lapses
    into_lane(id)
  end
end

-- A task follows no more; if it was the last, its leader's answer is waited for by nobody.
local function unfollow(id, group, member)
  redis.call('HDEL', GROUPED, id)
  redis.call('ZREM', FOLLOWERS, member)
  if #followers(group, 1) == 0 then
    local leader = redis.call('HGET', LEADERS, group) or ''
    redis.call('ZREM', AWAY, leader)
    if redis.call('HDEL', ENDED, leader) == 1 then
      succeed(group)
    end
  end
end

-- A task leaves the lot: dropped for a reason, its place is another's; else its answer is waited for.
local function leave_group(id, dropped)
  local group, member = group_of(id)
  if member then
    unfollow(id, group, member)
  elseif group and dropped then
    succeed(group)
  elseif group and #followers(group, 1) > 0 then
    grow('ZADD', AWAY, clock(), id)
  end
end

-- A task has ended, with this verdict if it was told here.
local function forget_trail(id, verdict)
  redis.call('HDEL', TRAIL, id)
  redis.call('ZREM', RETURNING, id)
  local group, member = group_of(id)
  if not group or member then
    return
  elseif #followers(group, 1) > 0 then
    if grow('HSETNX', ENDED, id, verdict or '') == 1 then
      grow('ZADD', AWAY, clock(), id)
    end
  else
    succeed(group)
  end
end

-- Takes a task out of the lot wherever it stands; true if it was there, if only by its id. Counted as released,
-- unless it was dropped for a reason.
local function leave_lot(id, dropped)
  dropped = dropped ~= '' and dropped or nil
  local size = redis.call('HSTRLEN', MESSAGES, id)
  if redis.call('HDEL', MESSAGES, id) == 0 and not redis.call('ZSCORE', LEASES, id) then
    return false
  end
  altered = true
  redis.call('HINCRBY', CIRCUIT, 'bytes', 0 - size) -- of nothing -size is -0, which Redis refuses
  leave_lanes(id)
  end_lease(id)
  redis.call('ZREM', SINCE, id)
  redis.call('ZREM', EXPIRES, id)
  redis.call('HINCRBY', CIRCUIT, dropped and 'dropped:' .. dropped or 'released', 1)
  leave_group(id, dropped)
  return true
end

-- Tasks that left the lot more than a day ago and never ended here are forgotten, a few at a time.
local function drop_old_trails(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', RETURNING, '-inf', now - DAY, 'LIMIT', 0, 20)) do
    forget_trail(id)
  end
end

local function script()
