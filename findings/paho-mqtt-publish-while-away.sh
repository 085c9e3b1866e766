#!/usr/bin/env bash
# paho-mqtt says that a message was not published, and publishes it later; what waits has no limit.
#
# While the broker is away, `publish(..., qos=1)` answers with rc 4 (no connection), `is_published()` raises, and so it does
# for ever, also after the broker has acknowledged the message. So who sends again what "failed" sends twice. With qos=0 the
# same answers mean that the message is lost. Of qos 1, paho keeps any number of messages unless told otherwise.
# What helps: a bounded queue of one's own, one message in paho at a time, and a new client after a failure.
# Seen with Python 3.11, paho-mqtt 2.1.0:
#   away, qos 0: rc 4, is_published() raises
#   away, qos 1: rc 4, is_published() raises
#   a thousand more wait: 1001
#   connected: the broker acknowledges 1001 messages, the one of qos 0 is not among them
#   is_published() of the first one of qos 1 raises
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check paho-mqtt==2.1.0
cat > "$place/show.py" <<'PYTHON'
import socket
import threading

from paho.mqtt import client as mqtt

got, all_came = [], threading.Event()

def exactly(peer, count):
    data = b""
    while len(data) < count:
        data += peer.recv(count - len(data))
    return data

def broker(server):
    """As much of a broker as takes messages of qos 1."""
    peer, _ = server.accept()
    while True:
        head, length, shift = exactly(peer, 1)[0], 0, 0
        while True:
            byte = exactly(peer, 1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        body = exactly(peer, length)
        if head >> 4 == 1:
            peer.sendall(b"\x20\x02\0\0")
        elif head >> 4 == 3:
            end = 2 + int.from_bytes(body[:2], "big")
            got.append(body[2:end].decode())
            peer.sendall(b"\x40\x02" + body[end : end + 2])
            if len(got) == 1001:
                all_came.set()

def published(message):
    try:
        return f"returns {message.is_published()}"
    except (ValueError, RuntimeError):
        return "raises"

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
acknowledged = threading.Semaphore(0)
client.on_publish = lambda *_: acknowledged.release()
first = {qos: client.publish(f"qos/{qos}", b"", qos=qos) for qos in (0, 1)}
for qos, message in first.items():
    print(f"away, qos {qos}: rc {message.rc}, is_published() {published(message)}")
for _ in range(1000):
    client.publish("more", b"", qos=1)
print("a thousand more wait:", len(client._out_messages))
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=broker, args=(server,), daemon=True).start()
client.connect("127.0.0.1", server.getsockname()[1])
client.loop_start()
assert all_came.wait(30)
for _ in range(1001):
    assert acknowledged.acquire(timeout=30)
there = "" if "qos/0" in got else "not "
print(f"connected: the broker acknowledges {len(got)} messages, the one of qos 0 is {there}among them")
print("is_published() of the first one of qos 1", published(first[1]))
PYTHON
timeout 120 "$place/venv/bin/python" "$place/show.py" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
away, qos 0: rc 4, is_published() raises
away, qos 1: rc 4, is_published() raises
a thousand more wait: 1001
connected: the broker acknowledges 1001 messages, the one of qos 0 is not among them
is_published() of the first one of qos 1 raises
SEEN
echo "as described"
