"""Faults of inference, named by what can be done about them."""


class InferenceFault(Exception):
    """A fault raised by the inference package."""


class SourceRefused(InferenceFault):
    """The source cannot be processed honestly; nothing is tried again. `reason_code` is stable."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class DeviceExhausted(InferenceFault):
    """The device ran out of memory; smaller tiles or a later try may help."""


class WeightsInvalid(InferenceFault):
    """A weights file is missing, has the wrong hash or an unknown architecture; start-up stops."""


class WeightsMissing(WeightsInvalid):
    """There is no folder of weights of that name; they can be had as the words say."""


class SettingsInvalid(InferenceFault):
    """A pipeline's settings hold an unknown key or a value outside its range; the config is refused. `key` names it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key
