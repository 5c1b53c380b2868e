#!/usr/bin/env python3
"""Checks bvisor's sealed reports, receipts and exported ledgers.

Written from docs/formats/report.md and docs/formats/ledger.md alone, with
nothing but Python's standard library. It is slow and plain on purpose.

  verify.py --key KEY.pem report REPORT
  verify.py --key KEY.pem receipt RECEIPT REPORT
  verify.py --key KEY.pem consistency PROOF
  verify.py --key KEY.pem log DIR [OLDER-CHECKPOINT]

KEY.pem is from "bvisor key export", RECEIPT from "bvisor run --report" or
"bvisor ledger prove", PROOF from "bvisor ledger prove --since", DIR from
"bvisor ledger export". --key may be given several times.

Exit status 0: everything holds; 1: something does not, and is named.
"""

import base64
import hashlib
import json
import os
import re
import sys


class Bad(Exception):
    """Something that does not hold."""


def require(condition, what):
    if not condition:
        raise Bad(what)


# --- Ed25519 (RFC 8032 section 5.1.7) -----------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def decode_point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P != 0:
        x = x * ROOT % P
        if (v * x * x - u) % P != 0:
            return None
    if x == 0 and sign:
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * D * p[3] * q[3] % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(n, p):
    q = (0, 1, 1, 0)
    while n:
        if n & 1:
            q = add(q, p)
        p = add(p, p)
        n >>= 1
    return q


BASE = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519(public, message, signature):
    """Whether signature is public's over message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = decode_point(public), decode_point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = multiply(s, BASE), add(r, multiply(k, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- keys ---------------------------------------------------------------------

SPKI = bytes.fromhex("302a300506032b6570032100")  # RFC 8410


def read_key(path):
    """The 32 bytes of a public key in PEM."""
    with open(path, encoding="ascii") as f:
        text = f.read()
    m = re.fullmatch(r"-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=\n]+)-----END PUBLIC KEY-----\n?", text)
    require(m, f"{path}: expected one public key in PEM")
    der = unbase64(m.group(1).replace("\n", ""), path)
    require(der.startswith(SPKI) and len(der) == len(SPKI) + 32, f"{path}: expected an Ed25519 key")
    return der[len(SPKI):]


def key_id(public):
    return hashlib.sha256(SPKI + public).hexdigest()


def unbase64(text, where):
    """Bytes in base64's one spelling: with padding, unused bits zero."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Bad(f"{where}: expected base64")
    require(base64.b64encode(data).decode() == text, f"{where}: base64 in another spelling")
    return data


# --- canonical JSON and the envelope (report.md) --------------------------------

MOST = 2**53 - 1


def canonical(value):
    """The one encoding of a value (RFC 8785, without floats and null)."""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        require(abs(value) <= MOST, f"the number {value} is too large")
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ",".join(canonical(v) for v in value) + "]"
    if isinstance(value, dict):
        names = sorted(value, key=lambda n: n.encode("utf-16-be"))
        return "{" + ",".join(canonical(n) + ":" + canonical(value[n]) for n in names) + "}"
    raise Bad(f"{value!r} has no place in a report")


def parse(data, where):
    """Reads canonical JSON, and nothing else."""
    def once(pairs):
        names = [n for n, _ in pairs]
        require(len(set(names)) == len(names), f"{where}: a name stands twice")
        return dict(pairs)

    def never(text):
        raise Bad(f"{where}: {text} is no number that a report may hold")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_float=never, parse_constant=never)
    except (ValueError, RecursionError) as err:
        raise Bad(f"{where}: {err}")
    require(canonical(value).encode("utf-8") == data, f"{where}: not in its one encoding")
    return value


def verify_envelope(data, keys):
    """Checks a sealed report and returns its predicate."""
    e = parse(data, "envelope")
    require(isinstance(e, dict) and set(e) == {"payload", "payloadType", "signatures"}, "envelope: its members")
    require(e["payloadType"] == "application/vnd.in-toto+json", "envelope: payloadType")
    require(isinstance(e["signatures"], list) and len(e["signatures"]) == 1, "envelope: expected exactly 1 signature")
    signature = e["signatures"][0]
    require(isinstance(signature, dict) and set(signature) == {"keyid", "sig"}, "envelope: signature")
    public = [k for k in keys if key_id(k) == signature["keyid"]]
    require(public, f"key: {signature['keyid']} is not trusted")
    payload = unbase64(e["payload"], "payload")
    kind = e["payloadType"].encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    require(ed25519(public[0], message, unbase64(signature["sig"], "sig")), "signature: it is not of these bytes")
    s = parse(payload, "statement")
    require(s.get("_type") == "https://in-toto.io/Statement/v1", "statement: _type")
    require(s.get("predicateType") == "https://bvisor.dev/report/v1", "statement: predicateType")
    r = s["predicate"]
    require(r.get("version") == 1, "statement: version")
    # The bytes of a member are its canonical encoding, since the whole is.
    sha = lambda v: hashlib.sha256(canonical(v).encode("utf-8")).hexdigest()
    require(("plan" in r) != ("refusal" in r), "form: expected either a plan or a refusal")
    require(sha(r["profile"]) == r["identity"]["profile"], "profile: identity.profile is not its digest")
    if "plan" in r:
        require(sha(r["plan"]) == r["identity"]["plan"], "plan: identity.plan is not its digest")
        require(r["plan"]["profile"] == r["identity"]["profile"], "plan: it was made for another profile")
    if "descriptors" in r:
        require(sha(r["descriptors"]) == r["identity"]["descriptors"], "descriptors: not their digest")
    want = [("executable", r["identity"].get("executable")), ("plan", r["identity"].get("plan"))]
    want.append(("refusal", sha(r["refusal"]) if "refusal" in r else None))
    for stream in r.get("streams", []):
        want.append((stream["name"], stream["sha256"]))
        if stream["kept_sha256"] != stream["sha256"]:
            want.append((stream["name"] + ".kept", stream["kept_sha256"]))
    found = [(x["name"], x["digest"]["sha256"]) for x in s["subject"]]
    require(found == [w for w in want if w[1]], "subjects: they are not what the report is about")
    return r


# --- the tree (RFC 6962 section 2.1, RFC 9162 section 2.1) ----------------------

def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def tree_hash(hashes):
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return node_hash(tree_hash(hashes[:k]), tree_hash(hashes[k:]))


def check_inclusion(index, size, leaf, path, root):
    require(index < size, f"inclusion: entry {index} in a log of {size}")
    fn, sn, r = index, size - 1, leaf
    for p in path:
        require(sn != 0, "inclusion: the path is too long")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    require(sn == 0 and r == root, f"inclusion: entry {index} is not shown to be in the log of {size}")


def check_consistency(first, second, first_root, second_root, path):
    require(first <= second, f"consistency: the log had {first} entries and has {second}")
    if first == 0:
        require(not path, "consistency: a proof for nothing")
        return
    if first == second:
        require(not path and first_root == second_root, "consistency: two roots of one size")
        return
    path = list(path)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    require(path, "consistency: no proof")
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        require(sn != 0, "consistency: the proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    require(sn == 0 and fr == first_root and sr == second_root, "consistency: the log was rewritten, or forked")


# --- checkpoints, receipts, leaves (ledger.md) ----------------------------------

def decimal(text, where):
    require(re.fullmatch(r"0|[1-9][0-9]{0,18}", text), f"{where}: {text!r} is no number")
    return int(text)


def verify_checkpoint(note, keys):
    """Origin, size and root of a signed checkpoint."""
    text, blank, signatures = note.partition(b"\n\n")
    text += b"\n"
    lines = text.decode("utf-8").split("\n")
    require(blank and len(lines) == 4, "checkpoint: expected three lines and a signature")
    origin, size, root = lines[0], decimal(lines[1], "checkpoint"), unbase64(lines[2], "checkpoint")
    m = re.fullmatch("\u2014 ([^ +\n]+) ([A-Za-z0-9+/=]+)\n", signatures.decode("utf-8"))
    require(m and m.group(1) == origin and len(root) == 32, "checkpoint: expected exactly one signature, by its origin")
    signature = unbase64(m.group(2), "checkpoint")
    for k in keys:
        # https://c2sp.org/signed-note: the key's name, its algorithm, its bytes.
        named = hashlib.sha256(origin.encode() + b"\n\x01" + k).digest()[:4]
        if signature[:4] == named and ed25519(k, text, signature[4:]):
            return origin, size, root
    raise Bad("checkpoint: no trusted key signed it")


LEAF = re.compile(
    r"bvisor-entry-1 (intent|report|refusal|disposition|recovery) ([0-9a-f]{32}) "
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z) ([1-9][0-9]*) ([0-9a-f]{64})\n"
)


def parse_leaf(data):
    m = LEAF.fullmatch(data.decode("ascii", "replace"))
    require(m, f"leaf: {data[:80]!r}")
    return {"kind": m.group(1), "attempt": m.group(2), "time": m.group(3), "size": int(m.group(4)), "sha256": m.group(5)}


def check_body(leaf, body, where):
    require(len(body) == leaf["size"] and hashlib.sha256(body).hexdigest() == leaf["sha256"], f"{where}: its bytes are not those that the leaf names")


def check_report(leaf, body, keys, where):
    try:
        r = verify_envelope(body, keys)
    except Bad as err:
        raise Bad(f"{where}: {err}")
    kind = "refusal" if r["outcome"]["status"] == "refused" else "report"
    require(leaf["attempt"] == r["identity"]["attempt"] and leaf["kind"] == kind, f"{where}: the leaf is of another attempt")


def verify_receipt(receipt, body, keys):
    head, blank, checkpoint = receipt.partition(b"\n\n")
    lines = head.decode("ascii").split("\n")
    require(blank and len(lines) >= 3 and lines[0] == "c2sp.org/tlog-proof@v1" and lines[1].startswith("extra ") and lines[2].startswith("index "), "receipt: its form")
    data = unbase64(lines[1][len("extra "):], "receipt")
    index = decimal(lines[2][len("index "):], "receipt")
    path = [unbase64(line, "receipt") for line in lines[3:]]
    origin, size, root = verify_checkpoint(checkpoint, keys)
    check_inclusion(index, size, leaf_hash(data), path, root)
    leaf = parse_leaf(data)
    check_body(leaf, body, "report")
    check_report(leaf, body, keys, "report")
    return f"entry {index} of {size}, {origin}"


def verify_consistency(proof, keys):
    first, rest = proof.split(b"\n", 1)
    require(first == b"bvisor-consistency-1", "consistency: its form")
    path, blank, notes = (b"\n" + rest).partition(b"\n\n")
    require(blank, "consistency: its form")
    path = [unbase64(line, "consistency") for line in path.decode("ascii").split("\n") if line]
    a, b = split_notes(notes)
    a, b = verify_checkpoint(a, keys), verify_checkpoint(b, keys)
    require(a[0] == b[0], "consistency: of two logs")
    check_consistency(a[1], b[1], a[2], b[2], path)
    return f"the log of {b[1]} entries continues that of {a[1]}, {a[0]}"


def split_notes(both):
    """Two notes, with an empty line between them and one in each."""
    lines = both.split(b"\n")
    empty = [i for i, line in enumerate(lines) if not line]
    require(len(empty) == 4, "consistency: expected two checkpoints")
    return b"\n".join(lines[:empty[1]]) + b"\n", b"\n".join(lines[empty[1] + 1:])


# --- an exported log (https://c2sp.org/tlog-tiles) --------------------------------

def tile_number(n):
    parts = [f"{n % 1000:03d}"]
    while n >= 1000:
        n //= 1000
        parts.insert(0, f"x{n % 1000:03d}")
    return "/".join(parts)


def read(*path):
    try:
        with open(os.path.join(*path), "rb") as f:
            return f.read()
    except OSError as err:
        raise Bad(str(err))


def read_tile(directory, level, n, width):
    name = f"tile/{level}/{tile_number(n)}" + (f".p/{width}" if width < 256 else "")
    return name, read(directory, *name.split("/"))


def verify_log(directory, keys, older=None):
    origin, size, root = verify_checkpoint(read(directory, "checkpoint"), keys)
    hashes, ended, begun = [], set(), set()
    for n in range((size + 255) // 256):
        width = min(256, size - 256 * n)
        name, data = read_tile(directory, "entries", n, width)
        leaves = []
        while data:
            length = int.from_bytes(data[:2], "big")
            require(len(data) >= 2 + length, f"{name}: it is cut")
            leaves.append(data[2:2 + length])
            data = data[2 + length:]
        require(len(leaves) == width, f"{name}: {len(leaves)} leaves, expected {width}")
        for raw in leaves:
            index, leaf = len(hashes), parse_leaf(raw)
            where = f"entries/{index:09d}.{leaf['kind']}"
            body = read(directory, "entries", f"{index:09d}.{leaf['kind']}")
            check_body(leaf, body, where)
            if leaf["kind"] in ("report", "refusal"):
                check_report(leaf, body, keys, where)
            if leaf["kind"] in ("report", "refusal", "recovery"):
                require(leaf["attempt"] not in ended, f"{where}: a second end of {leaf['attempt']}")
                ended.add(leaf["attempt"])
            if leaf["kind"] == "intent":
                require(leaf["attempt"] not in begun, f"{where}: a second intent of {leaf['attempt']}")
                begun.add(leaf["attempt"])
            hashes.append(leaf_hash(raw))
    require(tree_hash(hashes) == root, "tree: the checkpoint's root is not that of the entries")
    level, row = 0, hashes
    while row:
        for n in range((len(row) + 255) // 256):
            part = row[256 * n:256 * n + 256]
            name, data = read_tile(directory, level, n, len(part))
            require(data == b"".join(part), f"{name}: it is not what follows from the entries")
        row = [tree_hash(row[i:i + 256]) for i in range(0, len(row) - 255, 256)]
        level += 1
    text = f"{size} entries, {len(begun - ended)} without an end, {origin}"
    if older is not None:
        old = verify_checkpoint(older, keys)
        require(old[0] == origin and old[1] <= size, f"consistency: the log had {old[1]} entries and has {size}")
        require(tree_hash(hashes[:old[1]]) == old[2], "consistency: the log was rewritten, or forked")
        text += f", continues that of {old[1]}"
    return text


def main(args):
    keys = []
    while args[:1] == ["--key"] and len(args) > 1:
        keys.append(read_key(args[1]))
        args = args[2:]
    if args[:1] == ["report"] and len(args) == 2:
        r = verify_envelope(read(args[1]), keys)
        return f"attempt {r['identity']['attempt']}, {r['outcome']['status']}"
    if args[:1] == ["receipt"] and len(args) == 3:
        return verify_receipt(read(args[1]), read(args[2]), keys)
    if args[:1] == ["consistency"] and len(args) == 2:
        return verify_consistency(read(args[1]), keys)
    if args[:1] == ["log"] and len(args) in (2, 3):
        return verify_log(args[1], keys, read(args[2]) if len(args) == 3 else None)
    sys.exit(__doc__)


if __name__ == "__main__":
    try:
        print("verified:", main(sys.argv[1:]))
    except (Bad, KeyError, TypeError, UnicodeDecodeError, ValueError) as err:
        sys.exit(f"verify.py: {type(err).__name__ + ': ' if not isinstance(err, Bad) else ''}{err}")
