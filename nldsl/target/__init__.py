"""PROGRAM -> what its training step would launch on a GPU that need not be there, and the time that
it is predicted to take. Nothing runs on one, and nothing of a step is computed.

    devices.py     the GPUs: what the compiler asks of one, and what one can do
    absent.py      PyTorch's compiler as if the GPU were there
    lower.py       a job of the compiled step -> its graphs, forward and backward, as Triton code
    count.py       a lowered graph -> kernels and library calls, their bytes and FLOPs
    rehearse.py    a program -> its graphs with their calls in a mean step, and what the host
                   launches between them
    predict.py     launches -> seconds, by the roofline of a GPU
    report.py      all of it as a page
    cubins.py      the kernels as machine code: registers and spills

Guarantees: the graphs are those of `--capture split`, through the same passes; what is launched is
what stands in the code that the compiler wrote, and a test compares the two; a function is called
as often as the emitted step calls it. Counts are exact for these graphs; times are predictions,
with their assumptions beside them.

Decisions. Traced on the processor and then moved, since autograd asks a GPU for its context before
it differentiates anything. So an operator that PyTorch writes otherwise for a GPU is counted as it
is for a processor; attention is one library call in either. Bytes are those of whole buffers, once
a launch, as the compiler itself counts them. A function is lowered where it is first called, in a
step on tensors without contents: sizes of a cluster fit a laptop.
"""
