-- Writes records, each only if it is newer than what is under its key.
--   KEYS[i]  the key of a record; all of one slot
--   ARGV[i]  the record: a byte of kind, the order (32 bytes of kind 1, 16 of others), and the rest
--   ARGV[#KEYS+1]  if there, the milliseconds after which those that are written go
-- Returns how many were newer.
--
-- The order is compared as numbers: Lua compares strings by the locale of the
-- server. Of the old record only its order is fetched, not the whole of it.
local byte, call = string.byte, redis.call
local applied, ttl = 0, ARGV[#KEYS + 1]
for i = 1, #KEYS do
  local key, value = KEYS[i], ARGV[i]
  local order = byte(value, 1) == 1 and 32 or 16
  local old = call('GETRANGE', key, 1, order)
  local newer = #old < order
  if not newer then
    -- Four bytes at a time, as numbers: the first that differ decide.
    for at = 1, order, 4 do
      local a, b, c, d = byte(value, at + 1, at + 4)
      local e, f, g, h = byte(old, at, at + 3)
      local new, was = ((a * 256 + b) * 256 + c) * 256 + d, ((e * 256 + f) * 256 + g) * 256 + h
      if new ~= was then
        newer = new > was
        break
      end
    end
  end
  if newer then
    if ttl then
      call('SET', key, value, 'PX', ttl)
    else
      call('SET', key, value)
    end
    applied = applied + 1
  end
end
return applied
