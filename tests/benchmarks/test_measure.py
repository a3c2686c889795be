import json

from benchmarks import measure


def test_parts_take_turns_and_warm_up():
    calls = []
    parts = {"ours": lambda: calls.append("o"), "theirs": lambda: calls.append("t")}
    timings = measure.interleaved(parts, rounds=3, repeats=2, warmup=1)
    assert "".join(calls) == "ot" + "oott" + "ttoo" + "oott"
    assert [len(times) for times in timings.seconds.values()] == [3, 3]


def test_a_round_is_the_mean_of_its_repeats():
    clock = [0.0]

    def part():
        clock[0] += 2.0

    timings = measure.interleaved({"part": part}, rounds=2, repeats=3, clock=lambda: clock[0])
    assert timings.seconds["part"] == [2.0, 2.0]


def test_ratios_of_minimum_and_median():
    first, second = measure.Timings({"a": [1.0, 2.0, 6.0], "b": [2.0, 3.0, 4.0]}).rows(work={"a": 10.0})
    assert first == {
        "part": "a",
        "min_ms": 1000.0,
        "median_ms": 2000.0,
        "ratio_of_min": 1.0,
        "ratio_of_median": 1.0,
        "per_second": 10.0,
    }
    third = measure.Timings({"a": [1.0]}, processor={"a": [2.0, 1.5]}).rows()[0]
    assert (third["cpu_min_ms"], third["ratio_of_cpu"]) == (1500.0, 1.0)
    assert second == {"part": "b", "min_ms": 2000.0, "median_ms": 3000.0, "ratio_of_min": 2.0, "ratio_of_median": 1.5}


def test_calibration_header_and_table(capsys, tmp_path):
    calibrated = measure.calibration(shapes=((256, 256, 256),), rounds=1)
    assert calibrated["jax float32"] > 0
    header = measure.print_header(calibrated)
    measure.print_table([{"part": "a", "min_ms": 1234.5}, {"part": "longer", "ratio": 0.123456}])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("machine: cpu ")
    assert printed[-3:] == ["part    min_ms  ratio", "a        1,234", "longer          0.123"]
    measure.write_json(str(tmp_path / "result.json"), header)
    assert json.loads((tmp_path / "result.json").read_text())["versions"]["jax"]
