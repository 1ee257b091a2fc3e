-- An operator's word, for the whole fleet.
--
-- ARGV  1 now or ''  2 act open|close|disable|reset  3 time limit (us, 0 for none)  4 note  5 actor
-- out   {the state afterwards, how long to wait before it is everybody's (us)}
-- does  open, disable: laid over the machine until the limit. close: closed now, and failures only
--       count until the limit. reset: the machine closed, nothing laid over it. close and reset also
--       let refused keys try again, and end a recovery's pace.
local now = clock()
local act, limit, note, actor = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local c = load(now)
local from = shown(c)
redis.call('HSET', CIRCUIT, 'acted', 1) -- see restore

if act == 'close' or act == 'reset' then
  if from ~= 'closed' or c.state ~= 'closed' then
    move(c, now, 'closed', '', 0, actor, note)
  end
  end_forced(c)
  end_ramp(c)
  clear_failures(c)
  redis.call('HSET', CIRCUIT, 'tat', 0)
  redis.call('DEL', WINDOW, REPORTERS)
  for _, name in ipairs(redis.call('HKEYS', CIRCUIT)) do
    if string.sub(name, 1, 8) == 'refused:' or string.sub(name, 1, 8) == 'doubted:' then
      redis.call('HDEL', CIRCUIT, name)
    end
  end
end
if act ~= 'reset' and limit > 0 then
  altered = true
  c.forced = ({ open = 'open', close = 'closed', disable = 'disabled' })[act]
  redis.call('HSET', CIRCUIT, 'forced', c.forced, 'forced_until', now + limit, 'actor', actor, 'note', note)
end
if from ~= shown(c) and (act == 'open' or act == 'disable') then
  record(c, now, from, shown(c), 'forced', actor, note)
end
return { shown(c), unseen(c, now) }
