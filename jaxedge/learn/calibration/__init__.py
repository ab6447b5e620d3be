"""Whether a network is as sure as it may be, and unsure where it is wrong.

confidence, correct = calibration.top(probability, labels)
error = calibration.expected_calibration_error(confidence, correct)

Confidences, scores, losses and labels are one number an example and may have
any shape, such as that of pixels. A weight, 0 for padding, says how much an
example counts; None counts all alike. Results are float32 at least, and NaN
where nothing counts.
"""

from jaxedge.learn.calibration.detection import RiskCoverage as RiskCoverage
from jaxedge.learn.calibration.detection import aurc as aurc
from jaxedge.learn.calibration.detection import auroc as auroc
from jaxedge.learn.calibration.detection import risk_coverage as risk_coverage
from jaxedge.learn.calibration.diagram import BY as BY
from jaxedge.learn.calibration.diagram import Reliability as Reliability
from jaxedge.learn.calibration.diagram import (
    expected_calibration_error as expected_calibration_error,
)
from jaxedge.learn.calibration.diagram import reliability as reliability
from jaxedge.learn.calibration.diagram import top as top
from jaxedge.learn.calibration.scores import (
    balanced_accuracy as balanced_accuracy,
)
from jaxedge.learn.calibration.scores import brier as brier
from jaxedge.learn.calibration.scores import confusion as confusion
from jaxedge.learn.calibration.scores import (
    negative_log_likelihood as negative_log_likelihood,
)
