-- What wrk sends: the requests of a file one after another, and what it prints at the end.
--   MODE=post   a line is DER in hexadecimal            MODE=get   a line is the path
--   MODE=nonce  as post; the last 16 octets are the nonce, another one for each request
--   SKIP=n      begin at request n
local mode, file, skip = os.getenv("MODE"), os.getenv("REQUESTS"), tonumber(os.getenv("SKIP") or "0")
local requests, count, at, nonces, salt = {}, 0, 0, 0, ""

local function octets(hexadecimal)
  return (hexadecimal:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

function init(_)
  local host = "Host: 127.0.0.1:" .. wrk.port .. "\r\n"
  for line in io.lines(file) do
    count = count + 1
    if mode == "get" then
      requests[count] = "GET " .. line .. " HTTP/1.1\r\n" .. host .. "Accept: application/ocsp-response\r\n\r\n"
    else
      local body = octets(line)
      requests[count] = "POST / HTTP/1.1\r\n" .. host .. "Content-Type: application/ocsp-request\r\n"
        .. "Accept: application/ocsp-response\r\nContent-Length: " .. #body .. "\r\n\r\n"
        .. (mode == "nonce" and body:sub(1, -17) or body)
    end
  end
  at = skip % count
  math.randomseed(os.time())
  for _ = 1, 12 do salt = salt .. string.char(math.random(0, 255)) end
end

function request()
  at = at % count + 1
  if mode ~= "nonce" then return requests[at] end
  nonces = nonces + 1
  local n = nonces
  return requests[at] .. salt
    .. string.char(n % 256, math.floor(n / 256) % 256, math.floor(n / 65536) % 256, math.floor(n / 16777216) % 256)
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"per_s": %.1f, "p50_ms": %.3f, "p99_ms": %.3f, "requests": %d, "errors": %d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    summary.requests, errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
