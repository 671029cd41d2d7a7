-- Writes one chunk of rows, all of it or nothing, if it is its turn.
-- KEYS: the meta hash, keys of strings, keys of lists.
-- ARGV: writer, the chunk's number, how many keys are of strings, how many words go into the meta hash, those words (field,
-- value, ...), a value for each string (none to delete it), and for each list its length and items.
local meta = redis.call('HMGET', KEYS[1], 'writer', 'number', 'epoch')
if not meta[1] then
    return { 'gone' }
end
if meta[1] ~= ARGV[1] then
    return { 'taken', meta[3] }
end
local number, found = tonumber(ARGV[2]), tonumber(meta[2])
if found >= number then
    -- It was written before, and the answer was lost.
    return { 'ok' }
end
if found < number - 1 then
    return { 'lost', meta[2] }
end

local strings, words = tonumber(ARGV[3]), tonumber(ARGV[4])
for k = 2, #KEYS do
    local kind = redis.call('TYPE', KEYS[k])['ok']
    if kind ~= 'none' and kind ~= (k <= strings + 1 and 'string' or 'list') then
        return { 'type', KEYS[k], kind }
    end
end

local at = 5 + words
for k = 2, strings + 1 do
    if ARGV[at] == '' then
        redis.call('DEL', KEYS[k])
    else
        redis.call('SET', KEYS[k], ARGV[at])
    end
    at = at + 1
end
for k = strings + 2, #KEYS do
    local last = at + tonumber(ARGV[at])
    redis.call('DEL', KEYS[k])
    -- As many as fit on Lua's stack at a time.
    for first = at + 1, last, 1000 do
        redis.call('RPUSH', KEYS[k], unpack(ARGV, first, math.min(first + 999, last)))
    end
    at = last + 1
end
redis.call('HSET', KEYS[1], 'number', ARGV[2], unpack(ARGV, 5, 4 + words))
return { 'ok' }
