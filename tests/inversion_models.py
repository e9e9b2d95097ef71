"""MODELs made of formulas, as Inversion Sigmas and Predicted Noise read them."""

from types import SimpleNamespace

from undegrade.models import noise_predictor

LEVELS = {250: 0.693205, 200: 0.569285, 150: 0.453819, 100: 0.341674, 50: 0.223003}
TABLE = noise_predictor.stable_diffusion_sigmas().float()


class Eps:
    """What ComfyUI's eps models say of their noise levels."""

    def __init__(self, sigmas=TABLE):
        self.sigmas = sigmas

    def timestep(self, sigma):
        return (sigma.log() - self.sigmas.log()[:, None]).abs().argmin(0)

    def calculate_input(self, sigma, noise):
        return noise / (sigma**2 + 1) ** 0.5

    def calculate_denoised(self, sigma, model_output, model_input):
        return model_input - model_output * sigma


class V(Eps):
    def calculate_denoised(self, sigma, model_output, model_input):
        return model_input / (sigma**2 + 1) - model_output * sigma / (sigma**2 + 1) ** 0.5


class Flow(Eps):
    def calculate_input(self, sigma, noise):
        return noise


def model(sampling=None):
    parts = {"model_sampling": sampling or Eps()}
    return SimpleNamespace(get_model_object=parts.__getitem__)
