"""Stage `plugins`: what the study chose, resolved. Always runs, so it must stay quick and torch-free."""

from backdoor_core.files import write_json
from backdoor_core.params import check_complete
from backdoor_core.study import Study, check_compatible, plugin_lock


def run(study: Study) -> None:
    """Check that the chosen components exist and fit together, and write the plugin lock."""
    check_complete(study.paths.params, study.params)
    check_compatible(study)
    write_json(study.paths.lock, plugin_lock(study))
