"""What goes wrong with ComfyUI, each fact with a stable code and whether trying again may help."""

from dataclasses import dataclass
from typing import ClassVar

from tintype.providers.contract import ProviderError


class ComfyError(ProviderError):
    """ComfyUI could not do what it was asked."""

    fact: ClassVar[str] = "comfyui_failed"
    may_help: ClassVar[bool] = False

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code=self.fact, retryable=self.may_help)


class UnreachableError(ComfyError):
    """No server answers under the address, or it went away in the middle of an answer."""

    fact = "comfyui_unreachable"
    may_help = True


class TooSlowError(ComfyError):
    """The server took a request and did not answer it in time."""

    fact = "comfyui_too_slow"
    may_help = True


class AccessError(ComfyError):
    """The server, or what stands before it, lets this machine not in."""

    fact = "comfyui_access_refused"


class AnswerError(ComfyError):
    """Something answers under the address, but not as ComfyUI does."""

    fact = "comfyui_answer_unexpected"


class BrokenServerError(ComfyError):
    """ComfyUI failed while it answered."""

    fact = "comfyui_broken"
    may_help = True


class NoServerFitsError(ComfyError):
    """None of the servers that answer has what the workflow needs."""

    fact = "comfyui_no_server_fits"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What one node of a workflow lacks: `sentence` names the node by its title and says what to do."""

    node: str
    input: str
    kind: str
    sentence: str


class WorkflowRefusedError(ComfyError):
    """ComfyUI does not run the workflow as it was sent; `problems` holds one entry for each fault it found."""

    fact = "workflow_refused"

    def __init__(self, detail: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(detail)
        self.problems = problems


class NodeMissingError(WorkflowRefusedError):
    """The workflow uses a node that this server does not have."""

    fact = "workflow_node_missing"


class ModelMissingError(WorkflowRefusedError):
    """The workflow uses a model file that this server does not have."""

    fact = "workflow_model_missing"


class PromptForgottenError(ComfyError):
    """The server knows nothing of the prompt: it was restarted, or somebody emptied its queue; send it again."""

    fact = "prompt_forgotten"
    may_help = True


class PromptInterruptedError(ComfyError):
    """Somebody ended the prompt on the server while it ran."""

    fact = "prompt_interrupted"


class NodeFailedError(ComfyError):
    """A node of the workflow failed while it ran."""

    fact = "workflow_node_failed"


class OutOfMemoryError(ComfyError):
    """The server's device ran out of memory; ComfyUI drops its models then, so another try may fit."""

    fact = "out_of_memory"
    may_help = True


class StillRunningError(ComfyError):
    """The prompt was asked to end and still runs; a node that computes cannot always be broken off."""

    fact = "prompt_still_running"
    may_help = True


class ResultMissingError(ComfyError):
    """A file that the prompt made is no longer on the server."""

    fact = "result_missing"
    may_help = True


class ResultIncompleteError(ComfyError):
    """A file did not arrive whole."""

    fact = "result_incomplete"
    may_help = True


class ResultTooLargeError(ComfyError):
    """A file is larger than is taken in."""

    fact = "result_too_large"


class UploadRefusedError(ComfyError):
    """The server does not take a file that the workflow needs."""

    fact = "upload_refused"
