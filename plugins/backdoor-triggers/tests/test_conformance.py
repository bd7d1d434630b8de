import pytest

from backdoor_core.testing import trigger_checks
from backdoor_triggers.missingness import Missingness
from backdoor_triggers.none import NoTrigger
from backdoor_triggers.rare_value import RareValue


@pytest.mark.parametrize("check", trigger_checks(Missingness, NoTrigger, RareValue))
def test_conformance(check):
    check()
