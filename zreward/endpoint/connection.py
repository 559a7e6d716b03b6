"""A server that was found to have the model, to return log-probabilities, and to be asked in one of three ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from zreward.common.errors import InputError, shorten
from zreward.endpoint.answers import AnswerError, Completion, read_completion, read_models
from zreward.endpoint.client import EndpointClient, EndpointError, RefusedError
from zreward.endpoint.labels import LabelReading, read_labels
from zreward.endpoint.requests import ASKED, CONTINUED, EXPORTED, Body, chat, data_uri, label_request, trace_request
from zreward.prompting import PromptForms
from zreward.rubric import Rubric

_ONE_TOKEN = (1, 2)
"""What a label may add; a template that ends the assistant's turn and begins another adds more."""


@dataclass(frozen=True)
class Cost:
    """Tokens of a request, 0 where the server does not count."""

    prompt: int
    completion: int


@dataclass(frozen=True)
class WrittenTrace:
    """A trace as the server returned it, without its stop marker."""

    text: str
    is_cut: bool
    cost: Cost


@dataclass(frozen=True)
class Connection:
    """Where requests go, and how the label is asked for."""

    client: EndpointClient
    model: str
    form: str
    rubric: Rubric
    forms: PromptForms
    tidy: bool = False  # the template wants the trace on lines of its own, as Qwen's do

    def trace(self, turns: list[Body], tokens: int, temperature: float, seed: int) -> WrittenTrace:
        """Sample a trace.

        Args:
            turns: the conversation, in its reasoning form.
            tokens: the budget.
            temperature: of sampling.
            seed: of sampling.
        """
        body = trace_request(turns, self.form, self.forms.stop_marker, tokens, temperature, seed)
        said, cost = self._ask(body, with_logprobs=False)
        text = said.reasoning or said.text
        start = self.forms.reasoning_start.strip()
        if start and text.lstrip().startswith(start):
            text = text.lstrip().removeprefix(start)
        return WrittenTrace(text.partition(self.forms.stop_marker)[0], said.is_cut, cost)

    def own_turn(self, trace: str) -> str:
        """What the model has said when the label follows: a template of `zreward export` writes the beginning itself."""
        start = "" if self.form == EXPORTED else self.forms.reasoning_start
        if self.tidy:
            start, trace = f"{start.strip()}\n", f"{trace.strip()}\n"
        return f"{start}{trace}{self.forms.stop_marker}{self.forms.answer_prefix}"

    def label(self, turns: list[Body], said: str, trace: str | None) -> tuple[LabelReading, Cost]:
        """The distribution over the labels.

        Args:
            turns: the conversation.
            said: what the model has said when the label follows.
            trace: the trace in it; None in the direct form.
        """
        body = label_request(turns, self.form, said, trace, self.rubric, self.client.settings.top_logprobs)
        answer, cost = self._ask(body, with_logprobs=True)
        return read_labels(answer.positions, self.rubric.labels, anywhere=self.form == ASKED), cost

    def _ask(self, body: Body, with_logprobs: bool) -> tuple[Completion, Cost]:
        answer = ask(self.client, self.model, body, with_logprobs)
        return answer, Cost(answer.prompt_tokens or 0, answer.completion_tokens or 0)


def ask(client: EndpointClient, model: str, body: Body, with_logprobs: bool) -> Completion:
    """One request, counted.

    Args:
        client: the server.
        model: as it calls it.
        body: of `requests`.
        with_logprobs: whether the answer must hold them.
    """
    found = read_completion(client.complete(client.settings.extra | body | {"model": model}), with_logprobs)
    client.usage.add(requests=1, prompt_tokens=found.prompt_tokens or 0, completion_tokens=found.completion_tokens or 0)
    return found


def connect(client: EndpointClient, rubric: Rubric, forms: PromptForms) -> Connection:
    """Find the model and the way to ask it, with questions about a small grey picture.

    Args:
        client: the server.
        rubric: what is judged.
        forms: the texts of the questions.

    Raises:
        InputError: see `EndpointTeacher.connect`.
    """
    model = _find_model(client)
    turns = chat(
        data_uri(Image.new("RGB", (64, 64), "grey")), "a grey square", rubric.dimensions[0], rubric, forms, False
    )

    def probe(form: str, said: str) -> Completion:
        body = label_request(turns, form, said, None, rubric, client.settings.top_logprobs) | {"max_tokens": 1}
        return ask(client, model, body, with_logprobs=True)

    try:
        form = _find_form(client.settings.answer, probe, rubric.labels[0])
        found = Connection(client, model, form, rubric, forms)
        return _with_traces(found, probe) if form == CONTINUED else found
    except (RefusedError, AnswerError) as error:
        raise EndpointError(f"{client.url}, model {model!r}: {error}") from None


def _find_model(client: EndpointClient) -> str:
    """InputError for a name that the server does not have. One without a list of models is believed."""
    wanted, answer = client.settings.model, client.models()
    if answer is None:
        if not wanted:
            raise InputError(f"{client.url} does not say which models it has; name one: endpoint:{client.url}#MODEL")
        return wanted
    try:
        offered = read_models(answer)
    except AnswerError as error:
        raise EndpointError(f"{client.url}/models: {error}; is this the address of an OpenAI-compatible API?") from None
    told = shorten(", ".join(offered), 300) or "none"
    if not wanted and len(offered) != 1:
        raise InputError(f"{client.url} has the models {told}; name one: endpoint:{client.url}#MODEL")
    if wanted and wanted not in offered:
        raise InputError(f"{client.url} has no model {wanted!r}; it has {told}")
    return wanted or offered[0]


def _find_form(wanted: str, probe: Callable[[str, str], Completion], label: str) -> str:
    """The first form that the server follows: a label that is put into the model's mouth must be one more token of the prompt.

    A server that ignores the template's variable adds none; one that ignores `continue_final_message` ends the turn and
    begins another. Servers that do not count prompt tokens are asked.
    """
    if wanted != "auto":
        probe(wanted, label)
        return wanted
    try:
        before = probe(EXPORTED, "").prompt_tokens
        for form in (EXPORTED, CONTINUED):
            after = probe(form, label).prompt_tokens
            if before is not None and after is not None and after - before in _ONE_TOKEN:
                return form
    except RefusedError:
        pass  # fields that only some servers know
    probe(ASKED, "")
    return ASKED


def _with_traces(found: Connection, probe: Callable[[str, str], Completion]) -> Connection:
    """How this server continues a turn with a trace in it: templates that take the trace apart refuse some forms of it."""
    for each in (found, replace(found, tidy=True)):
        try:
            probe(CONTINUED, each.own_turn("x"))
            return each
        except RefusedError:
            continue
    probe(ASKED, "")
    return replace(found, form=ASKED)
