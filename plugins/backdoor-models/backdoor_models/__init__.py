"""Classifiers of ICU stays."""

from collections.abc import Callable

from backdoor_core.contracts import Model, hookimpl
from backdoor_models.event_transformer import EventTransformer
from backdoor_models.ft_transformer import FTTransformer
from backdoor_models.gbdt import GBDT
from backdoor_models.gru import GRU
from backdoor_models.logistic import Logistic
from backdoor_models.lstm import LSTM
from backdoor_models.mlp import MLP
from backdoor_models.tab_transformer import TabTransformer
from backdoor_models.tcn import TCN


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    """Register every model of this distribution."""
    for model in (Logistic, GBDT, MLP, TabTransformer, FTTransformer, LSTM, GRU, TCN, EventTransformer):
        register(model)
