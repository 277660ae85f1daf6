"""Lua scripts that read or change the index of all names, each in one atomic step; `index.py` explains the order.

All of them get the keys of the index, in the order of `keys.INDEX_KEYS`.
"""

from p2pshare.registry.redis.scripts import timed

_INDEX = timed("""
local MARKER, RECOVERING, NAMES, CHECKS, HERE, ORIGINALS, PRESENCE, SINCE, CLASSIC, EVENTS = unpack(KEYS)

local function event(name, kind, presence, since)
  redis.call('XADD', EVENTS, 'MAXLEN', '~', 10000, '*', 'e',
    name .. ' ' .. kind .. ' ' .. presence .. ' ' .. int(since))
end
""")


def _indexed(lua: str) -> str:
    return _INDEX + lua


# Changes of one name: the newest one wins, by its time. A presence that began after the last one that is known to have
# been there replaces it, although nobody has told its end.
_NOTE = _indexed("""
local function seen_before(name) return tonumber(redis.call('ZSCORE', PRESENCE, name) or 0) end

local function show(name, to_originals)
  redis.call('ZADD', HERE, 0, name)
  redis.call(to_originals and 'ZADD' or 'ZREM', ORIGINALS, unpack(to_originals and {0, name} or {name}))
end

local function hide(name)
  redis.call('ZREM', HERE, name)
  redis.call('ZREM', ORIGINALS, name)
  redis.call('HDEL', SINCE, name)
end

local function note_owned(name, state, seen, to_originals, since)
  local before = seen_before(name)
  if seen <= math.abs(before) then return end
  redis.call('ZADD', PRESENCE, state == 'off' and -seen or seen, name)
  if before == 0 then
    redis.call('ZADD', NAMES, 0, name)
    redis.call('HDEL', CLASSIC, name)
  end
  if state == 'off' then
    hide(name)
    if before >= 0 then event(name, 'owned', 'offline', seen) end
  else
    local is_new = before <= 0 or since > before
    if state == 'claim' or is_new then
      show(name, to_originals)
      redis.call('HSET', SINCE, name, int(since))
    end
    if is_new then
      if before > 0 then event(name, 'owned', 'offline', before) end
      event(name, 'owned', 'online', since)
    end
  end
  if state == 'claim' or before == 0 then redis.call('ZREM', CHECKS, name) end
end

local function forget_owned(name, seen)
  if redis.call('ZREM', PRESENCE, name) == 1 then
    hide(name)
    event(name, 'owned', 'gone', seen)
  end
end

local function note_classic(name, seen, ends)
  redis.call('ZREM', PRESENCE, name)
  redis.call('HDEL', SINCE, name)
  if redis.call('HSET', CLASSIC, name, int(seen) .. ' ' .. int(ends)) == 1 then
    redis.call('ZADD', NAMES, 0, name)
    show(name, true)
    event(name, 'classic', 'unknown', seen)
  end
end

local function forget_classic(name, seen)
  if redis.call('HDEL', CLASSIC, name) == 1 then
    hide(name)
    event(name, 'classic', 'gone', seen)
  end
end
""")


def _noting(lua: str) -> str:
    return _NOTE + lua


# ARGV: the id of the known mark or nothing, an id for a new mark, the duration of a recovery in ms. Replies the mark.
OPEN = _indexed("""
local kept = ARGV[1]
local id, born, kind = string.match(redis.call('GET', MARKER) or '', '^(%S+) (%S+) (%S+)$')
if not id then
  id, born, kind = ARGV[2], int(now), kept == '' and 'first' or 'lost'
  redis.call('XADD', EVENTS, '*', 'opened', id)
  redis.call('SET', MARKER, id .. ' ' .. born .. ' ' .. kind)
  if kept ~= '' then redis.call('SET', RECOVERING, ARGV[3] .. ' ' .. int(now)) end
elseif kept ~= '' and kept ~= id and kind == 'first' then
  kind = 'lost'
  redis.call('SET', MARKER, id .. ' ' .. born .. ' ' .. kind)
  redis.call('SET', RECOVERING, ARGV[3] .. ' ' .. int(now))
end
return id .. ' ' .. born .. ' ' .. kind
""")

# ARGV: grace in ms, names. Replies the mark, and the rest of the recovery in ms.
ENTER = _indexed("""
for i = 2, #ARGV do
  redis.call('ZADD', NAMES, 0, ARGV[i])
  redis.call('ZADD', CHECKS, 'GT', now + ARGV[1], ARGV[i])
end
return (redis.call('GET', MARKER) or '') .. '\\n' .. (string.match(redis.call('GET', RECOVERING) or '0', '^%d+'))
""")

# ARGV: the mark under which the names were changed, grace in ms, and for each change: the name, the kind of change, its
# time, 1 if original clients see it (or when the lease of a classic name ends), and since when it is online without a
# break (or 0). Replies the mark.
NOTE = _noting("""
local marker = redis.call('GET', MARKER) or ''
if marker ~= ARGV[1] then return marker end
for i = 3, #ARGV, 5 do
  local name, state, seen, extra = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  if state == 'gone' then
    if seen > math.abs(seen_before(name)) then forget_owned(name, seen) end
    redis.call('ZADD', CHECKS, now + ARGV[2], name)
  elseif state == 'classic' then
    note_classic(name, seen, extra)
    redis.call('ZADD', CHECKS, math.max(now + ARGV[2], extra + 1), name)
  elseif state == 'free' then
    forget_classic(name, seen)
    redis.call('ZADD', CHECKS, now + ARGV[2], name)
  else
    note_owned(name, state, seen, extra == 1, tonumber(ARGV[i + 4]))
  end
end
return marker
""")

# ARGV: the leases of presence and ownership in ms, the maximum numbers of presences and names, and the maximum ms of a
# recovery that may pass: it advances only while a registry sweeps, to which owners can come back. Ends the presences
# that have expired; replies their number, then the names to check.
LAPSE = _noting("""
local left, counted = string.match(redis.call('GET', RECOVERING) or '', '^(%d+) (%d+)$')
if left then
  left = left - math.max(0, math.min(now - counted, tonumber(ARGV[5])))
  if left > 0 then
    redis.call('SET', RECOVERING, int(left) .. ' ' .. int(now))
  else
    redis.call('DEL', RECOVERING)
  end
end
local lapsed = redis.call('ZRANGEBYSCORE', PRESENCE, '(0', now - ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #lapsed, 2 do
  redis.call('ZADD', PRESENCE, -lapsed[i + 1], lapsed[i])
  hide(lapsed[i])
  event(lapsed[i], 'owned', 'offline', lapsed[i + 1])
end
local due = redis.call('ZRANGEBYSCORE', CHECKS, '-inf', now, 'LIMIT', 0, ARGV[4])
local expired = redis.call('ZRANGEBYSCORE', PRESENCE, ARGV[2] - now, '(0', 'LIMIT', 0, ARGV[4])
for _, name in ipairs(expired) do due[#due + 1] = name end
return table.concat({#lapsed / 2, unpack(due)}, '\\n')
""")

# ARGV: the mark, the lease of ownership in ms, and for each name: the name and the reply of LEFT.
SETTLE = _noting("""
if redis.call('GET', MARKER) ~= ARGV[1] then return end
for i = 3, #ARGV, 7 do
  local name, owner_left, classic_left = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local check, before = redis.call('ZSCORE', CHECKS, name), seen_before(name)
  local due = before ~= 0 and math.abs(before) <= now - ARGV[2]
  if check then due = tonumber(check) <= now end
  if due and owner_left > 0 then
    note_owned(name, ARGV[i + 4], tonumber(ARGV[i + 3]), ARGV[i + 5] == '1', tonumber(ARGV[i + 6]))
    redis.call('ZREM', CHECKS, name)
  elseif due and classic_left > 0 then
    if redis.call('HEXISTS', CLASSIC, name) == 0 then note_classic(name, now, now + classic_left) end
    redis.call('ZADD', CHECKS, now + classic_left + 1, name)
  elseif due then
    forget_owned(name, math.abs(before))
    forget_classic(name, tonumber(string.match(redis.call('HGET', CLASSIC, name) or '0', '^%d+')))
    redis.call('ZREM', NAMES, name)
    redis.call('ZREM', CHECKS, name)
  end
end
""")

# ARGV: lower bound, maximum number. Replies the names.
PAGE = _indexed("""
return table.concat(redis.call('ZRANGEBYLEX', ORIGINALS, ARGV[1], '+', 'LIMIT', 0, ARGV[2]), '\\n')
""")

# ARGV: lower and upper bound, maximum number, the leases of presence and ownership in ms, 1 for online names only.
# Replies the name after which to continue or nothing, then for each name: the name, kind, presence, and since when
# it is online, or else when it was seen.
PEERS = _indexed("""
local low, high, limit, lease, ownership = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local among = ARGV[6] == '1' and HERE or NAMES
local found, following = {''}, ''
for _ = 1, 10 do
  local names = redis.call('ZRANGEBYLEX', among, low, high, 'LIMIT', 0, limit)
  if #names == 0 then following = '' break end
  local presence = redis.call('ZMSCORE', PRESENCE, unpack(names))
  local since, classic = redis.call('HMGET', SINCE, unpack(names)), redis.call('HMGET', CLASSIC, unpack(names))
  for i, name in ipairs(names) do
    local score = tonumber(presence[i])
    if score then
      local seen = math.abs(score)
      local online = score > 0 and score > now - lease
      if online or (among == NAMES and seen > now - ownership) then
        found[#found + 1] = name .. ' owned ' .. (online and 'online ' or 'offline ')
          .. (online and since[i] or int(seen))
      end
    elseif classic[i] then
      local seen, ends = string.match(classic[i], '^(%S+) (%S+)$')
      if tonumber(ends) > now then found[#found + 1] = name .. ' classic unknown ' .. seen end
    end
    if #found > limit then
      local more = i < #names or #redis.call('ZRANGEBYLEX', among, '(' .. name, high, 'LIMIT', 0, 1) > 0
      found[1] = more and name or ''
      return table.concat(found, '\\n')
    end
  end
  following = #names == limit and names[#names] or ''
  if following == '' then break end
  low = '(' .. following
end
found[1] = following
return table.concat(found, '\\n')
""")

# ARGV: the id after which to begin or nothing, the maximum number. Replies the last id, 1 if no event since is missing,
# then the events.
EVENTS = _indexed("""
local after = ARGV[1]
local newest = redis.call('XREVRANGE', EVENTS, '+', '-', 'COUNT', 1)[1]
local last = newest and newest[1] or '0-0'
if after == '' or after == last then return last .. ' 1' end
local function before(one, other)
  local ms, n = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_n = string.match(other, '^(%d+)-(%d+)$')
  ms, n, other_ms, other_n = tonumber(ms), tonumber(n), tonumber(other_ms), tonumber(other_n)
  return ms < other_ms or (ms == other_ms and n < other_n)
end
if before(last, after) then return last .. ' 0' end
local complete = not before(after, redis.call('XRANGE', EVENTS, '-', '+', 'COUNT', 1)[1][1])
local some = redis.call('XRANGE', EVENTS, '(' .. after, '+', 'COUNT', ARGV[2])
local lines = {some[#some][1] .. (complete and ' 1' or ' 0')}
for _, each in ipairs(some) do
  if each[2][1] == 'e' then lines[#lines + 1] = each[1] .. ' ' .. each[2][2] end
end
return table.concat(lines, '\\n')
""")

# ARGV: the lease of presence in ms.
COUNT = _indexed("""
return redis.call('ZCARD', PRESENCE) + redis.call('HLEN', CLASSIC) .. ' '
  .. redis.call('ZCOUNT', PRESENCE, '(' .. int(now - ARGV[1]), '+inf') .. ' ' .. redis.call('HLEN', CLASSIC)
""")
