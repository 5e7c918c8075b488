"""Negative ELBO with the rate in three weighted parts, total correlation among them (beta-TCVAE)."""

from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from vaebench.core.errors import UserError
from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective
from vaebench.distributions.errors import UnavailableError
from vaebench.functional.total_correlation import minibatch_stratified, minibatch_weighted


@dataclass(frozen=True)
class Options:
    """Weights of the mutual information, the total correlation and the dimension-wise KL, and how q(z) is estimated."""

    alpha: float = 1.0
    beta: float = 4.0
    gamma: float = 1.0
    sampling: Literal["weighted", "stratified"] = "weighted"


@final
class TotalCorrelation(Objective):
    """R + alpha I(x; z) + beta TC(z) + gamma (log prod_l q(z_l) - log p(z)), nats per example, means over the batch.

    I = log q(z|x) - log q(z), TC = log q(z) - log prod_l q(z_l), each at one draw z per example, with q(z) the
    aggregate posterior estimated from the batch. With a factorised prior the last part is the dimension-wise KL; any
    other enters by its exact log p(z), and the part is KL(q(z) || p(z)) - TC(z): gamma is then 1, since a larger one
    would reward total correlation (UserError from `prepare`). The parts sum to the rate, whatever the estimate of q(z).
    Weighted sampling shifts the parts by multiples of log N, which have no gradient. UserError unless q(z|x) is a
    diagonal Gaussian.
    Source: Chen et al. 2018, equations 2 and 4; for a decoupled prior Bhalodia et al. 2020.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def prepare(self, model: LatentVariableModel, examples: int) -> None:
        super().prepare(model, examples)
        if self.options.gamma == 1:
            return
        prior = model.prior(1)
        try:
            prior.moments()
        except UnavailableError as error:
            raise UserError(
                f"objective 'total-correlation' with gamma = {self.options.gamma} rewards total correlation where the "
                f"prior does not factorise, as this model's {prior.kind}; use gamma = 1"
            ) from error

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        o, posterior = self.options, model.posterior(x)
        try:
            mean, log_variance = posterior.moments()
        except UnavailableError as error:
            raise UserError(
                "objective 'total-correlation' needs a diagonal Gaussian posterior, but this model's family "
                f"({type(model).__name__}) has a {posterior.kind}; use objective 'elbo' or another family"
            ) from error
        latents, log_posterior = posterior.rsample_with_log_prob(1)
        estimate = minibatch_weighted if o.sampling == "weighted" else minibatch_stratified
        joint, marginals = estimate(latents[0][0], mean, log_variance, self.examples)
        distortion = -model.likelihood(latents).log_prob(x).mean()
        information = (log_posterior - joint).mean()
        correlation = (joint - marginals).mean()
        dimensions = (marginals - model.prior(len(x)).log_prob(latents)).mean()
        terms = {
            "distortion": distortion,
            "rate": information + correlation + dimensions,
            "mutual_information": information,
            "total_correlation": correlation,
            "dimension_wise_kl": dimensions,
        }
        return Loss(distortion + o.alpha * information + o.beta * correlation + o.gamma * dimensions, terms)


plugin = (TotalCorrelation, Options)
