"""What all tests run under."""

import os

# Before torch is loaded, here or in what tests start. Threads that wait for each other by spinning take the cores from
# whatever runs beside them: a training of two seconds takes twenty beside another.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
