"""Leak and over-redaction rates, and the speed of redaction, as JSON.

    python -m bench.redaction.measure [--seed 20250] [--lines 20000]

A secret has leaked when four of its digits in a row, or the local part or host of its
address, are left. A sentence is over-redacted when anything else than its secret is gone.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.redaction import phrases
from bench.redaction.corpus import Line, lines, make_secret

from steno.core.transcript import RawText, Sentence
from steno.redaction import Carry, Redactor

_MASK = "[REDACTED]"
_TAGS = {"en": "en-US", "es": "es-ES", "fr": "fr-FR", "de": "de-DE"}


def has_leaked(line: Line, output: str) -> bool:
    """Whether a part of the secret that matters is left in ``output``."""
    return any(piece in f" {output} " for piece in _pieces(line))


def _pieces(line: Line) -> list[str]:
    words = line.secret.split()
    if line.kind == "email":
        return _email_pieces(line, words)
    if line.style == "written":
        digits = line.secret
        return [digits[i : i + 5] for i in range(max(1, len(digits) - 4))]
    return [" " + " ".join(words[i : i + 4]) + " " for i in range(max(1, len(words) - 3))]


def _email_pieces(line: Line, words: list[str]) -> list[str]:
    if line.style == "written":
        return [line.secret, *line.secret.split("@")]
    at = phrases.AT[line.language]
    local, host = words[: words.index(at)], words[words.index(at) + 1]
    if all(len(word) == 1 for word in local[:3]) and len(local) > 2:
        spelled = [word for word in local if len(word) == 1]
        rows = [spelled[i : i + 3] for i in range(len(spelled) - 2)]
        return [f" {host} ", *(f" {' '.join(row)} " for row in rows)]
    return [f" {word} " for word in (local[0], host)]


def is_damaged(line: Line, output: str) -> bool:
    """Whether something beside the secret is gone."""
    if not line.secret:
        return output != line.text
    return not (output.startswith(line.before.strip()) and output.endswith(line.after.strip()))


def single(seed: int, count: int, *, evaluate: bool, show: int) -> dict[str, object]:
    """Rates over single sentences, in all and by entity and language."""
    redactor = Redactor()
    totals: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for line in lines(seed, count, evaluate=evaluate):
        output = redactor.redact(RawText(line.text), language=_TAGS[line.language]).text
        sort = "leak" if line.secret else "over"
        bad = has_leaked(line, output) if line.secret else is_damaged(line, output)
        keys = [sort, f"{sort}.{line.kind}.{line.language}"]
        if line.secret:
            keys += [f"leak.{line.style}"]
            totals["over_in_positives"] += 1
            damaged = is_damaged(line, output)
            failed["over_in_positives"] += damaged
            if damaged and show > 0:
                show -= 1
                print("damaged", line, output, file=sys.stderr)
        for key in keys:
            totals[key] += 1
            failed[key] += bad
        if bad and show > 0:
            show -= 1
            print(sort, line, output, file=sys.stderr)
    return {key: round(failed[key] / totals[key], 5) for key in sorted(totals)}


def carried(seed: int, count: int, *, show: int) -> dict[str, object]:
    """Leak rate of secrets cut into one to four sentences with back-channels between."""
    rng = random.Random(seed)
    redactor = Redactor()
    leaked = 0
    held = sentences = 0
    for number in range(count):
        language = rng.choice(["en", "es", "fr", "de"])
        kind = rng.choice(["phone", "card", "email"])
        words = make_secret(rng, language, kind, "spoken").split()
        cuts = sorted(rng.sample(range(1, len(words)), min(rng.randint(0, 3), len(words) - 1)))
        pieces = [words[a:b] for a, b in zip([0, *cuts], [*cuts, len(words)], strict=True)]
        # Without a word of e-mail the first part of an address is any name: it needs one.
        before = getattr(phrases, kind.upper())[language][kind != "email"].split("{}")[0]
        carry, now, texts = Carry(redactor), 0.0, []
        for index, piece in enumerate(pieces):
            text = (before if index == 0 else "") + " ".join(piece)
            now += 1.0
            said = [("customer", text)]
            if rng.random() < 0.5:
                said.append(("agent", rng.choice(phrases.BACK_CHANNELS[language])))
            for lane, utterance in said:
                sentence = _sentence(number, lane, f"{number}-{index}", utterance, language)
                texts += carry.push(sentence, now=now)
                sentences += 1
                held += carry.holding
        texts += carry.flush(now)
        joined = " ".join(out.text for out in texts if out.sentence.lane == "customer")
        line = Line(language, kind, "spoken", "", " ".join(words), "")
        if has_leaked(line, joined):
            leaked += 1
            if show > 0:
                show -= 1
                print("carry leak", pieces, joined, file=sys.stderr)
    return {
        "leak": round(leaked / count, 5),
        "secrets": count,
        "sentences_waiting_while_dictated": round(held / sentences, 3),
    }


def latency(seed: int, count: int) -> dict[str, object]:
    """Share of sentences without any secret which are held back."""
    carry = Carry(Redactor())
    held = total = 0
    for number, line in enumerate(lines(seed, count, evaluate=True)):
        if line.secret:
            continue
        carry.push(_sentence(0, "p", str(number), line.text, line.language), now=float(number))
        total += 1
        held += carry.holding
        carry.flush(float(number))
    return {"held": round(held / total, 5), "sentences": total}


def _sentence(conversation: int, lane: str, utterance: str, text: str, language: str) -> Sentence:
    return Sentence(
        str(conversation), lane, utterance, 0, RawText(text), _TAGS[language], 0.9, 0, 0, 0
    )


def speed(seed: int) -> dict[str, object]:
    """Sentences per second of one core, through the carry as the service uses it."""
    corpus = list(lines(seed, 4000, evaluate=True))
    plain = [line for line in corpus if line.kind == "plain"]
    positives = [line for line in corpus if line.secret]
    negatives = [line for line in corpus if not line.secret and line.kind != "plain"]
    # A contact centre's mix: nearly all talk, some numbers, few secrets.
    mixed = (plain * 200)[:9000] + negatives[:700] + positives[:300]
    random.Random(seed).shuffle(mixed)
    sets = {"plain": plain * 20, "mixed": mixed, "numbers": negatives, "secrets": positives}
    return {name: _timed(chosen) for name, chosen in sets.items()}


def _timed(chosen: Sequence[Line]) -> dict[str, float]:
    redactor = Redactor()
    sentences = [
        _sentence(number % 50, "p", str(number), line.text, line.language)
        for number, line in enumerate(chosen)
    ]
    carries = [Carry(redactor) for _ in range(50)]
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for number, sentence in enumerate(sentences):
            carries[number % 50].push(sentence, now=float(number))
        best = min(best, time.process_time() - start)
        for carry in carries:
            carry.flush(0.0)
    each = best / len(sentences)
    return {"sentences_per_s": round(1 / each), "cpu_us": round(each * 1e6, 2)}


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=20250)
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--develop", action="store_true", help="use the development phrases")
    parser.add_argument("--show", type=int, default=0, help="print so many failures to stderr")
    options = parser.parse_args()
    evaluate = not options.develop
    rates = single(options.seed, options.lines, evaluate=evaluate, show=options.show)
    result = {
        "seed": options.seed,
        "lines": options.lines,
        "phrases": "evaluation" if evaluate else "development",
        "rates": rates,
        "carry": carried(options.seed + 1, max(200, options.lines // 10), show=options.show),
        "latency": latency(options.seed + 2, options.lines // 4),
        "speed": speed(options.seed + 3),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
