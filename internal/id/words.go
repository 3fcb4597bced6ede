package id

import "strings"

func adjectives() []string {
	return strings.Fields(`
agile airy alert amber ample apt arctic astute autumn azure balmy bold brave breezy bright brisk bronze calm candid
careful casual cheerful chief civil clear clever cobalt copper coral cosmic cozy crisp curious daring deft dewy dreamy
eager early earnest easy elegant emerald fabled fair famous fancy fearless fine fleet fluent fond frank free fresh
frosty gallant gentle gifted glad golden graceful grand happy hardy hazel hearty honest humble icy ideal indigo ivory
jade jolly jovial keen kind lasting lively loyal lucid lucky lunar mellow merry mighty mild misty modest neat nimble
noble olive patient peaceful plucky polite proud pure quick quiet radiant rapid ready robust rosy ruby rustic sage
scarlet serene sharp silent silver sincere smart smooth snowy solar solid spry stable steady still stoic sturdy subtle
sunny swift tidy tireless tranquil true upbeat valiant velvet vivid warm wise witty zealous zesty`)
}

func surnames() []string {
	return strings.Fields(`
abel agnesi aiken ampere archimedes aryabhata avogadro babbage backus banach banneker bardeen bassi becquerel bell
bernoulli berzelius bhabha bohr boltzmann boole born bose boyle brahe brahmagupta bunsen cantor carnot cassini cauchy
cavendish chandra chern chu clausius coulomb cray crick curie dalton darwin davy dedekind descartes dijkstra diophantus
dirac doppler eckert edison einstein eratosthenes erdos euclid euler faraday fermat fermi feynman fibonacci floyd
fourier franklin fresnel galileo galois galvani gauss germain gibbs goedel goodall hadamard halley hamilton hamming
hawking heaviside heisenberg helmholtz henry herschel hertz hilbert hoare hodgkin hooke hopper hubble huygens hypatia
jacobi joule kelvin kepler khayyam kilby kirchhoff knuth kolmogorov kovalevskaya lagrange lamarr laplace lavoisier
leavitt leibniz lie linnaeus lorentz lovelace maxwell mccarthy meitner mendel mendeleev mirzakhani moore morse nash
naur neumann newton nightingale noether nygaard oersted ohm pascal pauli pauling perlis planck poincare poisson ramanujan
raman ritchie roentgen rubin rutherford sagan sammet schroedinger shannon snell sommerfeld stokes strachey tesla
thompson torvalds turing venn viete volta wallis watson watt weber wegener weyl wiener wilkes wirth yalow yukawa zuse`)
}
