-- Put leased messages back that are in no queue: nothing takes them now, or nobody can publish them.
--
-- ARGV  1 now or ''  2 lease token  3 shortest pause (us)  4 longest pause (us)  5.. ids
-- out   how many were put back
-- does  only what still bears this lease: ends it, frees the reservation, and sends the message behind all
--       others for an eighth of the time it has waited, so that none keeps those behind it from a place
local now = clock()
local last = tonumber(redis.call('HGET', CIRCUIT, 'last_place') or 0)
local deferred = 0
for i = 5, #ARGV do
  local id = ARGV[i]
  if redis.call('HGET', TOKENS, id) == ARGV[2] then
    end_lease(id)
    redis.call('ZREM', PROBES, reservation(id))
    local _, member = group_of(id)
    if not member then -- else it waits behind its leader
      local t = trail(id)
      last = math.max(now, last + 1)
      t.order = last
      keep_trail(id, t)
      local pause = math.min(math.max((now - t.since) / 8, tonumber(ARGV[3])), tonumber(ARGV[4]))
      grow('ZADD', DUE, int(now + pause), id)
    end
    deferred = deferred + 1
  end
end
if deferred > 0 then
  redis.call('HSET', CIRCUIT, 'last_place', int(last))
  redis.call('HINCRBY', CIRCUIT, 'unroutable', deferred)
end
return deferred
