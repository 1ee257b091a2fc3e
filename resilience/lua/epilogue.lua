end
-- Behind every script: runs it, and sees to it that what it has written is kept, and for how long.
--
-- A circuit goes away once nobody has asked for it for IDLE, counted from when an operator's word or changes end, and
-- with it what is known of its tasks that were to come back. While a message waits, or only somebody can end what shut
-- it, it stays.
local IDLE, EVER = 30 * DAY, 36500 * DAY

local function is_held(c)
  local told = c.state == 'open' and (c.reason == 'auth' or c.reason == 'retired' or c.reason == 'entitlement')
  return told or redis.call('EXISTS', MESSAGES) == 1
end

-- When the last that has a time of its own ends.
local function ends_at(c)
  local stages = c.override ~= '' and cjson.decode(redis.call('HGET', CIRCUIT, 'override_stages') or '[]') or {}
  local last = stages[#stages] and stages[#stages][1] or c.override_until
  return math.max(c.retry_at, c.forced ~= '' and c.forced_until or 0, c.override ~= '' and last or 0)
end

-- From now on for so long, and besides until what it holds is over.
local function keep_key(key, longest, ends)
  if key == COUNTED then -- a quota's window may be longer
    ends = tonumber(redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]) or 0
  end
  redis.call('PEXPIRE', key, int((longest + math.max(ends - NOW, 0)) / 1000))
end

local function keep()
  local how, since = string.match(KEPT, '^(%a+) (%d+)$')
  local late = not how or math.abs(NOW - tonumber(since)) >= HOUR
  if altered or late then
    local c = load(NOW)
    local held = is_held(c)
    if late or how ~= (held and 'held' or 'idle') or not held then
      local ends = ends_at(c)
      for _, key in ipairs(ALL) do
        keep_key(key, held and EVER or IDLE, ends)
      end
      redis.pcall('HSET', CIRCUIT, 'kept', (held and 'held ' or 'idle ') .. int(NOW))
    end
  elseif how == 'idle' then -- the circuit was kept within the hour; what a held one grows meanwhile stays
    for key in pairs(grown) do
      keep_key(key, IDLE, 0)
    end
  end
end

local answer = script()
if NOW then
  keep()
end
return answer
