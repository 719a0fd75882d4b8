"""A judge behind a real HTTP server: what it is asked, what of its words counts, and what its failures cost."""

import pytest

from liit.engine.answers import judging
from liit.engine.answers.metrics import score
from liit.engine.settings.metric_options import options_of
from tests.engine.answers.judge_server import judge


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "FIRST_WAIT_S", 0.001)


def test_the_judge_s_number_is_the_value_and_its_words_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")

    def reply(text: str, times: int) -> tuple[int, str]:
        return 200, {"red": "Score: 2, no: Score: 10", "blue": "Score: 2.5", "grey": "Fine!", "pink": "Score: 11"}[
            text.split("|")[2]
        ]

    with judge(reply) as (server, options):
        options |= {"key_env": "JUDGE_KEY", "max_tokens": 99}
        answers = ["red", "blue", "grey", "pink", " ", "<think>so</think>red"]
        found = score("judge", answers, [["red", "rot"]] * 6, options, ["Which colour?"] * 6)
    assert found.values == [100, 25, 0, 0, 0, 100]
    assert found.parse_failures == 3, "no number, a number that does not exist, no answer"
    assert found.judgements == [
        "Score: 2, no: Score: 10",
        "Score: 2.5",
        "Fine!",
        "Score: 11",
        None,
        "Score: 2, no: Score: 10",
    ]
    assert found.extra == {"judge_errors": 0}
    assert len(server.requests) == 5, "an empty answer is not sent"
    one = next(request for request in server.requests if request["messages"][0]["content"].endswith("|blue"))
    assert one["messages"] == [{"role": "user", "content": "Which colour?|red\nrot|blue"}]
    assert (one["path"], one["key"], one["model"]) == ("/v1/chat/completions", "Bearer secret", "judge-1")
    assert (one["temperature"], one["max_tokens"]) == (0, 99)


def test_what_answers_and_questions_say_is_no_template() -> None:
    with judge(lambda text, times: (200, "Score: 10")) as (server, options):
        score("judge", ["{question}{reference}"], [["r"]], options, ["{answer}"])
        assert server.requests[0]["messages"][0]["content"] == "{answer}|r|{question}{reference}"


def test_a_failure_that_may_pass_is_asked_again_and_one_that_lasts_is_counted() -> None:
    def reply(text: str, times: int) -> tuple[int, str]:
        answer = text.split("|")[2]
        if answer == "late":
            return (503, "") if times < 2 else (200, "Score: 10")
        return {"never": (429, ""), "wrong": (400, "")}.get(answer, (200, "Score: 5"))

    with judge(reply) as (server, options):
        found = score("judge", ["late", "never", "wrong", "fine"], [["r"]] * 4, options | {"retries": 2})
    assert found.values == [100, 0, 0, 50]
    assert (found.parse_failures, found.extra["judge_errors"]) == (2, 2)
    assert [server.asked[f"|r|{answer}"] for answer in ("late", "never", "wrong", "fine")] == [3, 3, 1, 1]


def test_a_bounded_number_of_requests_is_in_flight_and_the_order_stays() -> None:
    with judge(lambda text, times: (200, f"Score: {int(text.split('|')[2]) % 11}")) as (server, options):
        found = score("judge", [str(number) for number in range(40)], [["r"]] * 40, options | {"in_flight": 3})
    assert found.values == pytest.approx([number % 11 * 10 for number in range(40)])
    assert 1 < server.most_open <= 3


def test_a_judge_that_is_not_there_has_judged_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with judge(lambda text, times: (401, "")) as (_, options), pytest.raises(ValueError, match=r"none of 2 .*401"):
        score("judge", ["a", "b"], [["r"]] * 2, options)
    with pytest.raises(ValueError, match="answered none of 1 requests"):  # the server is closed now
        score("judge", ["a"], [["r"]], options | {"retries": 1})
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(ValueError, match=r"environment variable JUDGE_KEY .* holds no key"):
        score("judge", ["a"], [["r"]], options | {"key_env": "JUDGE_KEY"})


def test_the_key_does_not_follow_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    with judge(lambda text, times: (200, "Score: 10")) as (elsewhere, other):
        moved = f"{other['base_url']}/chat/completions"
        with judge(lambda text, times: (302, moved)) as (_, options), pytest.raises(ValueError, match="302"):
            score("judge", ["a"], [["r"]], options | {"key_env": "JUDGE_KEY"})
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_url": "file:///etc/passwd"}, "options.base_url of metric judge"),
        ({"prompt": "Is it right?"}, "prompt must hold {answer}"),
        ({"parse": "Score"}, "must have one group"),
        ({"parse": "("}, "is no regular expression"),
        ({"pattern": "x"}, "must have one group"),
        ({"modl": "x"}, "options.modl of metric judge: no such option; it takes pattern, base_url"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_asked(change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        options_of("judge", {"base_url": "http://127.0.0.1/v1", "model": "m"} | change)
