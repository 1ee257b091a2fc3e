end
-- Behind every script: runs it, and sees to it that what it has written is kept, and for how long.
--
-- A circuit goes away once nobody has asked for it for IDLE, and with it what is known of its tasks that were to come
-- back. While a message waits, an operator's word or changes are in force, or only somebody can end what shut it, it
-- stays.
local IDLE, EVER = 30 * DAY, 36500 * DAY

local function is_held(c)
  local told = c.state == 'open' and (c.reason == 'auth' or c.reason == 'retired' or c.reason == 'entitlement')
  return told or c.forced ~= '' or c.override ~= '' or redis.call('EXISTS', MESSAGES) == 1
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
      for _, key in ipairs(ALL) do
        keep_key(key, held and EVER or IDLE, c.retry_at)
      end
      redis.pcall('HSET', CIRCUIT, 'kept', (held and 'held ' or 'idle ') .. int(NOW))
    end
  else
    written[CIRCUIT] = nil -- it was kept within the hour
    for key in pairs(written) do
      keep_key(key, how == 'held' and EVER or IDLE, 0)
    end
  end
end

local answer = script()
if NOW then
  keep()
end
return answer
