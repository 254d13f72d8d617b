"""Build a network from its definition without running code that a model file names."""

from collections.abc import Mapping
from inspect import signature
from pydoc import locate
from typing import Any

from torch import nn

from strokelesion.networks import UserError

# Packages whose networks a model file may name.
KNOWN_PACKAGES = ("strokelesion.networks.", "monai.networks.nets.")


def require_known(definition: Mapping[str, Any], source: Any, trusted: str = "") -> None:
    """Raise UserError unless a definition names a known network with plain arguments.

    Anybody may have written the file of a definition, and MONAI would import and call any class that it names.

    Args:
        definition: Class of the network in `_target_`, and its arguments.
        source: File of the definition, for messages.
        trusted: Another allowed class, which the user named in a bundle file.
    """
    target = str(definition.get("_target_", ""))
    is_known = target.startswith(KNOWN_PACKAGES) or (target and target == trusted)
    arguments = {name: value for name, value in definition.items() if name != "_target_"}
    if not is_known or not all(is_allowed(name, value) for name, value in arguments.items()):
        raise UserError(
            f"{source} asks for the network {dict(definition)}; allowed are classes of {' and '.join(KNOWN_PACKAGES)} "
            "with plain arguments. Use a model from a source you trust; if the network is your own, name its class as "
            "network_def in the bundle file."
        )
    if not isinstance(found := locate(target), type) or not issubclass(found, nn.Module):
        raise UserError(
            f"{source} asks for the network {target}, which is not installed; expected a network. Update strokelesion."
        )
    # A path may lead to classes that a module has only imported.
    is_own = f"{found.__module__}.".startswith(KNOWN_PACKAGES) and not loads_weights(found)
    if target != trusted and not is_own:
        raise UserError(
            f"{source} asks for the network {target}; allowed are networks that load no weights from elsewhere. Use a model "
            "from a source you trust; if the network is your own, name its class as network_def in the bundle file."
        )


def loads_weights(network: type) -> bool:
    """Return whether a network of MONAI loads weights from elsewhere unless it is told otherwise."""
    parameters = signature(network).parameters.values()
    return any("pretrained" in parameter.name and parameter.default is True for parameter in parameters)


def is_allowed(name: str, value: Any) -> bool:
    """Return whether an argument is plain and does not make a MONAI network load weights from elsewhere."""
    return name[:1] != "_" and "pretrained" not in name and is_plain(value)


def is_plain(value: Any) -> bool:
    """Return whether a value is a number, a boolean, None, a string that MONAI does not evaluate, or a list of these."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, str):
        return not value.startswith(("$", "@", "%"))
    return isinstance(value, int | float | bool | None)


def build_network(definition: Mapping[str, Any], source: Any) -> nn.Module:
    """Return the network of a definition, with initial weights; see `require_known`."""
    require_known(definition, source)
    network: Any = locate(str(definition["_target_"]))
    built: nn.Module = network(**{name: value for name, value in definition.items() if name != "_target_"})
    return built
