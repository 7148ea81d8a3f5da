"""Models of GPyTorch that users wrote, named by class path."""

import gpytorch
from gpytorch import kernels


class Plain(gpytorch.models.ExactGP):
    """The tutorial's."""

    def __init__(self, x, y, likelihood, nu=2.5):
        super().__init__(x, y, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = kernels.ScaleKernel(kernels.MaternKernel(nu))

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


class Variational(gpytorch.models.ApproximateGP):
    """The tutorial's, with inducing points that stay."""

    def __init__(self, inducing_points, learn=False):
        variational = gpytorch.variational
        super().__init__(
            variational.VariationalStrategy(
                self,
                inducing_points,
                variational.CholeskyVariationalDistribution(len(inducing_points)),
                learn_inducing_locations=learn,
            )
        )
        self.mean_module = gpytorch.means.ZeroMean()
        self.covar_module = kernels.ScaleKernel(kernels.RBFKernel())

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


class Pairs(Plain):
    """Two outputs at a time, which one process an output is not."""

    def forward(self, x):
        return super().forward(x[:-1])
