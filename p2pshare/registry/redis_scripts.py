"""What the registry lets Redis do in one atomic step. See `redis_store` for the keys.

`CLAIM` gets the key of a name, the others the two of the index.
"""

CLAIM = """
local held = redis.call('GET', KEYS[1])
local address, proof, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
if held then
  local held_address, held_proof = string.match(held, '^(%S+ %S+) (%S+)$')
  if held_proof ~= proof then return 'taken' end
  if proof == '-' then
    if held_address ~= address or lease == 0 then return 'taken' end
    lease = math.max(lease, redis.call('PTTL', KEYS[1]))
  end
end
if lease == 0 then
  redis.call('DEL', KEYS[1])
  return 'released'
end
redis.call('SET', KEYS[1], address .. ' ' .. proof, 'PX', lease)
return held and 'renewed' or 'claimed'
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

ENTER = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('ZADD', KEYS[2], 'GT', now + ARGV[2], ARGV[1])
"""
)

# One bulk reply with a name a line: of an array, the library's own parser takes one element in each
# turn of the reactor.
PAGE = """
return table.concat(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2]), '\\n')
"""

DUE = (
    _NOW
    + """
return table.concat(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[1]), '\\n')
"""
)

SETTLE = (
    _NOW
    + """
for i = 1, #ARGV, 2 do
  local name, left = ARGV[i], tonumber(ARGV[i + 1])
  local check = redis.call('ZSCORE', KEYS[2], name)
  if check and tonumber(check) <= now then
    if left < 0 then
      redis.call('ZREM', KEYS[1], name)
      redis.call('ZREM', KEYS[2], name)
    else
      redis.call('ZADD', KEYS[2], now + left + 1, name)
    end
  end
end
"""
)
