"""The program, the same for every stack: settings in, components out. Each step waits for those it is given."""

import gc

gc.disable()  # The process is short-lived: without garbage collection it starts a third faster.

from program.backups import register_backups, register_restore_test  # noqa: E402
from program.data import register_data  # noqa: E402
from program.foundation import register_foundation  # noqa: E402
from program.inputs import read_inputs  # noqa: E402
from program.maintenance_tasks import register_maintenance_tasks  # noqa: E402
from program.monitoring import register_monitoring  # noqa: E402
from program.page_check import register_page_check  # noqa: E402
from program.release import register_release  # noqa: E402
from program.retirement import register_retirement  # noqa: E402
from program.start_check import await_start  # noqa: E402
from program.status_page import register_status_page  # noqa: E402

gc.freeze()  # At exit, Python collects even when disabled; frozen objects are left out.

await_start()
inputs = read_inputs()
foundation = register_foundation(inputs)
register_status_page(inputs, foundation)
data = register_data(inputs, foundation)
backup = register_backups(inputs, foundation, data)
release = register_release(inputs, foundation, data, backup)
if release and data:
    register_maintenance_tasks(inputs, foundation, data, backup, release)
    register_page_check(inputs, foundation, backup, release)
if release or not inputs.settings.application.services:
    register_restore_test(inputs, foundation, data, backup, release)
    register_monitoring(inputs, foundation, data, release)
if data:
    checks = release.checks if release else [data.rotation, *([backup] if backup else [])]
    register_retirement(inputs, foundation, data, after=checks)
