# By bench/list_optimizers.py, from catalogue.py.
from .adagrad import Adagrad as Adagrad
from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .lamb import LAMB as LAMB
from .rmsprop import RMSprop as RMSprop
from .sgd import SGD as SGD
