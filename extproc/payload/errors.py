"""The one exception that this room raises for bytes that came from outside."""


class PayloadError(ValueError):
    """A body that cannot be accepted.

    `code` is short and stable (a metric label and the `code` of the error object); `param` names the offending field in
    OpenAI's notation (`messages[2].role`) where there is one. The message is fit for a client: it never quotes a value.
    """

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param

    def __repr__(self) -> str:
        return f"PayloadError({str(self)!r}, {self.code!r}, param={self.param!r})"
