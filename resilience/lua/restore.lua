-- A process knows what an operator has said of this circuit.
--
-- ARGV  1 now or ''  2 open|closed|disabled, '' for nothing  3 until (us)  4 note  5 actor
--       6 an override's stages as JSON, see override  7 its note  8 its actor
-- out   1 if it was news, 0 if not
-- does  a store that came back without its memory is told again. Where any operator has acted since it began, it
--       remembers, or somebody has told it by now
local now = clock()
local c = load(now)
if redis.call('HSETNX', CIRCUIT, 'acted', 1) == 0 then
  return 0
end
local from = shown(c)
altered = true
if ARGV[2] ~= '' and tonumber(ARGV[3]) > now then
  c.forced = ARGV[2]
  redis.call('HSET', CIRCUIT, 'forced', c.forced, 'forced_until', ARGV[3], 'note', ARGV[4], 'actor', ARGV[5])
  if from ~= shown(c) then
    record(c, now, from, shown(c), 'forced', ARGV[5], ARGV[4])
  end
end
for _, stage in ipairs(cjson.decode(ARGV[6])) do
  if stage[1] > now then
    redis.call('HSET', CIRCUIT, 'override', stage[2], 'override_until', int(stage[1]),
      'override_stages', ARGV[6], 'override_note', ARGV[7], 'override_actor', ARGV[8])
    break
  end
end
return 1
