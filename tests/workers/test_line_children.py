"""Child commands that answer lines: what they import, and what is said when they cannot start."""

import pytest

from bokehsynth.workers.line_children import ChildStartError, LineChild, ask_all, child_command


def test_a_child_that_ends_before_it_is_ready_is_an_error_of_its_own():
    with pytest.raises(ChildStartError, match=r"ModuleNotFoundError.*no_such_module"):
        LineChild(child_command("bokehsynth.no_such_module"))
    with pytest.raises(ChildStartError, match="no file was judged"):
        list(ask_all(["false"], ["request"], 1, 5))
    assert ChildStartError.exit_code == 1
