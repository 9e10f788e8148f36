"""What /metrics says."""

from ocsp.metrics import Metrics, exposition, outcome


def report(metrics: Metrics) -> dict[str, object]:
    """What a worker tells its parent."""
    return {"gauges": {"feed_position": 7}, "delegates": {"4000000000000001": (2, 1e9)}, **metrics.counts()}


def lines(text: str) -> dict[str, float]:
    """The samples: name and labels to value."""
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def test_every_worker_has_its_counts() -> None:
    """And one that does not answer is down."""
    metrics = Metrics()
    metrics.answered([outcome("unauthorized")] * 2)
    metrics.answered([outcome("successful", "good"), outcome("successful", "good", "revoked", "revoked")])
    metrics.cache_hits += 2
    text = exposition({0: (1, report(metrics)), 1: (3, None)})
    samples = lines(text)
    assert samples['prefca_ocsp_answers_total{worker="0",status="unauthorized"}'] == 2
    assert samples['prefca_ocsp_answers_total{worker="0",status="successful"}'] == 2
    assert samples['prefca_ocsp_certificates_total{worker="0",status="revoked"}'] == 2
    assert samples['prefca_ocsp_cache_hits_total{worker="0"}'] == 2
    assert samples['prefca_ocsp_feed_position{worker="0"}'] == 7
    assert (
        samples['prefca_ocsp_delegate_expiry_timestamp_seconds{worker="0",serial="4000000000000001",generation="2"}']
        == 1e9
    )
    assert samples['prefca_ocsp_worker_up{worker="0"}'] == 1
    assert samples['prefca_ocsp_worker_up{worker="1"}'] == 0
    assert samples['prefca_ocsp_worker_starts_total{worker="1"}'] == 3


def test_sign_times_are_a_cumulative_histogram() -> None:
    """As Prometheus wants it: each bucket holds those below it, too."""
    metrics = Metrics()
    for seconds in (0.0001, 0.0008, 0.0008, 5.0):
        metrics.signature(seconds)
    samples = lines(exposition({0: (1, report(metrics))}))
    buckets = [value for name, value in samples.items() if "_bucket" in name]
    assert buckets == [1, 1, 3, 3, 3, 3, 3, 3, 3, 4]
    assert samples['prefca_ocsp_sign_seconds_count{worker="0"}'] == 4
    assert samples['prefca_ocsp_sign_seconds_bucket{worker="0",le="+Inf"}'] == 4


def test_every_family_is_described_once() -> None:
    """HELP and TYPE stand before its samples."""
    text = exposition({0: (1, report(Metrics()))})
    described = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(described) == len(set(described))
    assert text.endswith("\n")
