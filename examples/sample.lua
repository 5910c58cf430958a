-- What comes after these letters?  A checkpoint of char-rnn writes on, as char-rnn's own sample.lua does.
require 'nngraph'

local cmd = torch.CmdLine()
cmd:argument('-checkpoint', 'what char-rnn wrote')
cmd:option('-prime', 'a bad cab', 'the letters that come before')
cmd:option('-length', 40, 'of the text')
cmd:option('-temperature', 0, 'lower is safer, higher is bolder; 0 always takes the likeliest letter')
cmd:option('-seed', 1, 'of the random numbers')
local options = cmd:parse(arg)

-- the class that char-rnn adds to nn: numbers of letters -> rows with a 1 at that place
local OneHot = torch.class('OneHot', 'nn.Module')

function OneHot:updateOutput(numbers)
   self.output:resize(numbers:size(1), self.outputSize):zero()
   return self.output:scatter(2, numbers:long():view(-1, 1), 1)
end

-- the states before the first letter: c1, h1, c2, h2, ... of an LSTM; h1, h2, ... of others
local function start(opt)
   local states = {}
   for i = 1, opt.num_layers * (opt.model == 'lstm' and 2 or 1) do
      states[i] = torch.zeros(1, opt.rnn_size)
   end
   return states
end

-- one letter further: the next states, and the log-probabilities of the letter after it
local function step(network, number, states)
   local output = network:forward{torch.Tensor{number}, unpack(states)}
   local after = {}
   for i = 1, #states do after[i] = output[i]:clone() end
   return after, output[#output][1]
end

local function choose(logProbabilities, temperature)
   if temperature == 0 then
      local _, number = logProbabilities:max(1)
      return number[1]
   end
   return torch.multinomial(nn.SoftMax():forward(logProbabilities / temperature), 1)[1]
end

local function sample(network, states, prime, length, temperature)
   local logProbabilities
   for _, number in ipairs(prime) do states, logProbabilities = step(network, number, states) end
   local numbers, likelihood = {}, 0
   for i = 1, length do
      numbers[i] = choose(logProbabilities, temperature)
      likelihood = likelihood + logProbabilities[numbers[i]]
      states, logProbabilities = step(network, numbers[i], states)
   end
   return numbers, likelihood
end

local checkpoint = torch.load(options.checkpoint)
local letters, prime = {}, {}
for letter, number in pairs(checkpoint.vocab) do letters[number] = letter end
for letter in options.prime:gmatch('.') do table.insert(prime, checkpoint.vocab[letter]) end

torch.manualSeed(options.seed)
local network = checkpoint.protos.rnn
network:evaluate()
local numbers, likelihood = sample(network, start(checkpoint.opt), prime, options.length, options.temperature)
for i, number in ipairs(numbers) do numbers[i] = letters[number] end
print(options.prime .. table.concat(numbers))
print(string.format('log-probability of what was written: %.4f', likelihood))
