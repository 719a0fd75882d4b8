"""A server that could not be reached, or would answer for another model, is refused before anything is started."""

import pytest
from pydantic import ValidationError

from liit.engine.settings.streams import Evaluation, Server


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("serve {merged}", "has no {port} in it"),
        ("serve --port {port}", "needs {merged}, or {model} and {adapter}"),
        ("serve {model} --port {port}", "needs {merged}, or {model} and {adapter}"),
        ("serve {merged} --lora {adapter} --port {port}", "needs {merged}, or {model} and {adapter}"),
        ("serve {merged} --port {port} --api-key abc", "leave out --api-key"),
        ("serve '{merged} --port {port}", "cannot be split into words: No closing quotation"),
    ],
)
def test_a_command_that_does_not_say_whom_it_serves_where_is_refused(command: str, says: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Server(command=command)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    "command", ["serve {merged} --port {port}", "serve {model} --lora liit={adapter} --x '{\"a\": 1}' --port {port}"]
)
def test_answers_depend_on_who_the_server_is_and_not_on_how_it_is_asked(command: str) -> None:
    one = Evaluation(server=Server(command=command))
    other = Evaluation(server=Server(command=command, in_flight=1, actors=4, gpus=1, retries=0), tokens_per_batch=5)
    assert one.answered_by() == other.answered_by()
    assert one.answered_by() != Evaluation(server=Server(command=f"{command} --dtype half")).answered_by()
    assert one.answered_by() != Evaluation().answered_by()


def test_a_health_that_is_no_path_and_losses_of_a_server_are_refused() -> None:
    with pytest.raises(ValidationError, match="health"):
        Server(command="serve {merged} {port}", health="health")
    with pytest.raises(ValidationError, match=r"evaluation.losses needs the model itself"):
        Evaluation(server=Server(command="serve {merged} {port}"), losses=True)
