"""How often a process has NVRTC compile: `python -m support.compile_count` renders by every kernel and counts.

CuPy also compiles an empty source, once, to learn which compiler it has; that is none of ours.
"""

from typing import Any

from bokehsynth.rendering.cuda import renderer as cuda
from support.scenes import battery_scene


def note_compilations(program: Any) -> list[str]:
    """Have a class like `cupy.cuda.compiler._NVRTCProgram` note the sources that it compiles; the list grows."""
    compiled: list[str] = []
    inner = program.compile

    def compile_noted(self: Any, *arguments: Any, **options: Any) -> Any:
        if self.src.strip():
            compiled.append(self.src)
        return inner(self, *arguments, **options)

    program.compile = compile_noted
    return compiled


def render_by_every_kernel() -> None:
    """Scenes that go every way there is, one after the other."""
    for name in ("tilted", "crossing", "nothing behind"):
        _ = battery_scene(name).render("cuda").bokeh
    cuda.warm_up()


if __name__ == "__main__":
    from cupy.cuda.compiler import _NVRTCProgram

    compiled = note_compilations(_NVRTCProgram)
    render_by_every_kernel()
    print(len(compiled))
